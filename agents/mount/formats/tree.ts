/**
 * From what a format's manifest lists to the ordered tree of a backup: checks that it is one, puts it in order, and
 * gives the files their numbers. Paths are those of `TreeEntry`.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { TreeEntry } from '../../dataplane/backup-source.ts'
import { assertSafePath } from './safe-path.ts'

/** One thing that a manifest lists; `source` is the format's own note of where its bytes are. */
export interface TreeNode<Source> {
  readonly path: string
  readonly kind: TreeEntry['kind']
  readonly mode: number
  readonly mtime: number
  readonly size: number
  readonly linkTarget?: string
  readonly source?: Source
}

export interface BackupTree<Source> {
  /** Parents before children; the same order for the same backup, always. */
  readonly entries: readonly TreeEntry[]
  /** Where the bytes of file number n are. */
  source(file: number): { readonly entry: TreeEntry; readonly source: Source } | undefined
  readonly totalBytes: number
  readonly fileCount: number
  /** OIDs, in ascending order. */
  readonly tablespaces: readonly string[]
}

/**
 * @param from names the manifest in messages
 * @throws HowdahError `backup_damaged` when two things have one path, one has no parent directory, or a path is unsafe
 */
export function buildTree<Source>(nodes: TreeNode<Source>[], from: string): BackupTree<Source> {
  nodes.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
  const directories = new Set<string>()
  const tablespaces: string[] = []
  const entries: TreeEntry[] = []
  const wrong = (path: string, finding: string) =>
    new HowdahError('backup_damaged', `${from} lists ${JSON.stringify(path)} ${finding}`)
  let totalBytes = 0
  let fileCount = 0
  let previous = ''
  let parent = ''
  for (const [index, node] of nodes.entries()) {
    const { path, kind, mode, mtime, size } = node
    assertSafePath(path, from)
    if (path === previous) throw wrong(path, 'twice')
    previous = path
    const oid = path.startsWith('tblspc/') ? /^tblspc\/(\d{1,10})$/.exec(path)?.[1] : undefined
    if (path !== 'data' && oid === undefined) {
      const above = path.slice(0, Math.max(0, path.lastIndexOf('/')))
      if (above !== parent && !directories.has(above)) throw wrong(path, 'without its directory')
      parent = above
    } else if (kind !== 'directory') throw wrong(path, 'as something else than a directory')
    if (kind === 'directory') directories.add(path)
    if (oid !== undefined) tablespaces.push(oid)
    if (kind === 'file') {
      totalBytes += size
      fileCount += 1
    }
    // Spelled out: a spread for each of 100,000 entries takes longer than all the rest.
    if (kind === 'file' && size > 0) entries.push({ path, kind, mode, mtime, size, file: index })
    else if (node.linkTarget === undefined) entries.push({ path, kind, mode, mtime, size })
    else entries.push({ path, kind, mode, mtime, size, linkTarget: node.linkTarget })
  }
  if (!directories.has('data')) throw wrong('data', 'not at all')
  return {
    entries,
    source(file) {
      const entry = entries[file]
      const source = nodes[file]?.source
      return entry?.file === undefined || source === undefined ? undefined : { entry, source }
    },
    totalBytes,
    fileCount,
    tablespaces: tablespaces.sort((a, b) => Number(a) - Number(b)),
  }
}
