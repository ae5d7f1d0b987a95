/**
 * From the entries of a format's manifest to the tree of a backup: validates it, sorts it, and numbers the files. Paths
 * are those of `TreeEntry`.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { TreeEntry } from '../../dataplane/backup-source.ts'
import { assertSafePath, isSafeName } from './safe-path.ts'
import { sortedInTurns, visitInTurns } from './turns.ts'

const BATCH = 500

/** An entry of a manifest; `source` is the format's own note of where its bytes are. */
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
  /** In batches; parents before children; the same order for the same backup, always. */
  entries(): Iterable<readonly TreeEntry[]>
  /** Where the bytes of file number n are. */
  source(file: number): { readonly entry: TreeEntry; readonly source: Source } | undefined
  find(path: string): TreeEntry | undefined
  readonly totalBytes: number
  readonly fileCount: number
  /** OIDs, in ascending order. */
  readonly tablespaces: readonly string[]
}

/**
 * Runs in turns with other work of the event loop.
 * @param from names the manifest in messages
 * @param sourceOf makes a file's source from the note of its node, when the file is first read
 * @throws HowdahError `backup_damaged` when two entries have the same path, one has no parent directory, or a path is
 *   unsafe
 */
export async function buildTree<Note, Source>(
  unsorted: readonly TreeNode<Note>[],
  from: string,
  sourceOf: (note: Note, entry: TreeEntry) => Source,
): Promise<BackupTree<Source>> {
  const nodes = await sortedInTurns(unsorted, (a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
  const directories = new Set<string>()
  const tablespaces: string[] = []
  const wrong = (path: string, finding: string) =>
    new HowdahError('backup_damaged', `${from} lists ${JSON.stringify(path)} ${finding}`)
  let totalBytes = 0
  let fileCount = 0
  let previous = ''
  let parent = ''
  await visitInTurns(nodes, ({ path, kind, size }) => {
    if (path === previous) throw wrong(path, 'twice')
    previous = path
    const slash = path.lastIndexOf('/')
    // Most are in the same directory as the one before them: then only the name needs a check.
    if (slash === parent.length && slash > 0 && path.startsWith(parent) && isSafeName(path, slash + 1)) {
      if (kind === 'directory') directories.add(path)
    } else {
      assertSafePath(path, from)
      const oid = path.startsWith('tblspc/') ? /^tblspc\/(\d{1,10})$/.exec(path)?.[1] : undefined
      if (path !== 'data' && oid === undefined) {
        const above = path.slice(0, Math.max(0, slash))
        if (!directories.has(above)) throw wrong(path, 'without its directory')
        parent = above
      } else if (kind !== 'directory') throw wrong(path, 'as something other than a directory')
      if (kind === 'directory') directories.add(path)
      if (oid !== undefined) tablespaces.push(oid)
    }
    if (kind === 'file') {
      totalBytes += size
      fileCount += 1
    }
  })
  if (!directories.has('data')) throw wrong('data', 'not at all')
  return {
    *entries() {
      for (let start = 0; start < nodes.length; start += BATCH) {
        const batch: TreeEntry[] = []
        for (let n = start; n < Math.min(start + BATCH, nodes.length); n++) {
          const node = nodes[n]
          if (node !== undefined) batch.push(entryOf(node, n))
        }
        yield batch
      }
    },
    source(file) {
      const node = nodes[file]
      if (node?.source === undefined || node.size === 0) return undefined
      const entry = entryOf(node, file)
      return { entry, source: sourceOf(node.source, entry) }
    },
    find(path) {
      let low = 0
      let high = nodes.length
      while (low < high) {
        const middle = (low + high) >> 1
        const node = nodes[middle]
        if (node === undefined || node.path >= path) high = middle
        else low = middle + 1
      }
      const node = nodes[low]
      return node?.path === path ? entryOf(node, low) : undefined
    },
    totalBytes,
    fileCount,
    tablespaces: tablespaces.sort((a, b) => Number(a) - Number(b)),
  }
}

/** Spelled out: an object spread for each of 100,000 entries would take longer than everything else. */
function entryOf({ path, kind, mode, mtime, size, linkTarget }: TreeNode<unknown>, index: number): TreeEntry {
  if (kind === 'file' && size > 0) return { path, kind, mode, mtime, size, file: index }
  if (linkTarget === undefined) return { path, kind, mode, mtime, size }
  return { path, kind, mode, mtime, size, linkTarget }
}
