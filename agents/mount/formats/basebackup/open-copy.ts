/** Opens a copy of a cluster, together with the earlier ones on which an incremental one builds, as a backup's tree and files. */
import { HowdahError } from '../../../../messages/errors.ts'
import type { TreeEntry } from '../../../dataplane/backup-source.ts'
import type { ComposedFile, StoredFile } from '../../decode/stored-file.ts'
import { type BackupTree, buildTree, type TreeNode } from '../tree.ts'
import { type CombinedSource, combinedTree, isIncremental } from './combined-tree.ts'
import { type Copy, type CopyReader, copiedFile, copyNodes, storedFile } from './copy.ts'
import type { CopySource } from './copy-locations.ts'
import { composeSegment } from './incremental-file.ts'

export interface OpenedCopy {
  readonly tree: BackupTree<CombinedSource>
  readonly storedFile: (source: CombinedSource, entry: TreeEntry) => StoredFile | ComposedFile
}

/**
 * @param earlier open the copies on which it builds, newest first, up to a full one; none: it is a full one
 * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
 */
export async function openCopy(
  copy: Copy,
  earlier: readonly (() => Promise<Copy>)[],
  reader: CopyReader,
): Promise<OpenedCopy> {
  const { spool } = reader
  const { nodes, mostBlocks } =
    earlier.length === 0
      ? { nodes: await fullNodes(copy, reader), mostBlocks: 0 }
      : await combinedTree(copy, earlier, reader)
  const name = copy.data.kind === 'directory' ? copy.data.path : copy.data.file.region.path
  return {
    tree: await buildTree(nodes, name, (source) => source),
    storedFile(source, entry) {
      if ('text' in source) {
        return { read: async (offset, length) => source.text.subarray(offset, offset + length) }
      }
      if (!('full' in source)) return storedFile(copiedFile(copy, { ...entry, source }))
      const { limit, newest, older, full } = source
      const segment = {
        ...{ bytes: entry.size, limit, newest: newest && storedFile(newest) },
        older: older.map(storedFile),
        full: { file: storedFile(full), bytes: full.size },
      }
      return composeSegment(segment, spool, mostBlocks)
    },
  }
}

/** @throws HowdahError `backup_damaged` when the copy is not a full one */
async function fullNodes(copy: Copy, reader: CopyReader): Promise<readonly TreeNode<CopySource>[]> {
  const nodes = await copyNodes(copy, reader)
  const change = nodes.find(isIncremental)
  if (change === undefined) return nodes
  throw new HowdahError(
    'backup_damaged',
    `backup ${copy.label} has only changes of some files, such as ${change.path}, and nothing says on which backup it builds`,
  )
}
