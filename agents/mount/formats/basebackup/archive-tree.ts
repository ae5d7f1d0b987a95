/** The tree of one tar archive of a copy: its members, below their directory in the backup. */
import { HowdahError } from '../../../../messages/errors.ts'
import type { StoredFile } from '../../decode/stored-file.ts'
import type { TarIndexes } from '../tar/tar-index.ts'
import type { TreeNode } from '../tree.ts'
import type { CopySource } from './copy-locations.ts'

const TABLESPACE = /^pg_tblspc\/\d{1,10}$/

/** @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable` */
export async function archiveNodes(
  archive: StoredFile,
  at: string,
  indexes: TarIndexes,
): Promise<TreeNode<CopySource>[]> {
  const nodes: TreeNode<CopySource>[] = []
  let root: TreeNode<CopySource> | undefined
  let groupReads = false
  for await (const member of (await indexes.open(archive)).members()) {
    const { path, kind, mode, mtime, offset, size, linkTarget } = member
    if (kind === 'symlink' && !TABLESPACE.test(path)) {
      // PostgreSQL puts no other links into a backup; one could lead to files of this machine.
      throw new HowdahError(
        'backup_unsupported',
        `${archive.description} (${archive.region.path}) has ${JSON.stringify(path)} as a symbolic link to ${JSON.stringify(linkTarget)}; such a backup is not opened`,
      )
    }
    groupReads ||= kind === 'file' && (mode & 0o040) !== 0
    const about = { kind, mode, mtime, size }
    if (path === '') root = { path: at, ...about }
    else if (linkTarget !== undefined) nodes.push({ path: `${at}/${path}`, ...about, linkTarget })
    else if (kind === 'directory') nodes.push({ path: `${at}/${path}`, ...about })
    else nodes.push({ path: `${at}/${path}`, ...about, source: [archive, offset] })
  }
  // PostgreSQL's archives omit the directory itself, whose group permission is that of its contents.
  nodes.push(root ?? { path: at, kind: 'directory', mode: groupReads ? 0o750 : 0o700, mtime: 0, size: 0 })
  return nodes
}
