/** Opens a copy of a cluster, together with the earlier ones on which an incremental one builds, as a backup's tree and files. */
import { HowdahError } from '../../../../messages/errors.ts'
import type { TreeEntry } from '../../../dataplane/backup-source.ts'
import type { ComposedFile, StoredFile } from '../../decode/stored-file.ts'
import { type BackupTree, buildTree, type TreeNode } from '../tree.ts'
import { type Copy, type CopyReader, copyFile, copyNodes } from './copy.ts'
import type { CopySource } from './copy-locations.ts'
import {
  BLOCK_BYTES,
  blockCount,
  type ChainFile,
  composeSegment,
  INCREMENTAL_PREFIX,
  noFullFile,
  readIncrementalHeader,
} from './incremental-file.ts'

/** Incremental files whose headers are read concurrently. */
const HEADER_CONCURRENCY = 32

/** Where a file of the backup is, or the files that it is composed of, newest first, or its content. */
type Source = CopySource | { readonly chain: readonly ChainFile[] } | { readonly text: Buffer }

export interface OpenedCopy {
  readonly tree: BackupTree<Source>
  readonly storedFile: (source: Source, entry: TreeEntry) => StoredFile | ComposedFile
}

/**
 * @param chain newest first: the copy, and all on which it builds up to a full one
 * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
 */
export async function openCopy(chain: readonly [Copy, ...Copy[]], reader: CopyReader): Promise<OpenedCopy> {
  const [copy, ...earlier] = chain
  const { spool } = reader
  const own = await copyNodes(copy, reader)
  const nodes: readonly TreeNode<Source>[] =
    earlier.length === 0 ? own : await combined(own, copy, earlier, reader)
  const name = copy.data.kind === 'directory' ? copy.data.path : copy.data.file.region.path
  return {
    tree: await buildTree(nodes, name, (source) => source),
    storedFile(source, { path, size }) {
      if ('chain' in source) return composeSegment(source.chain, size, spool)
      if (!('text' in source)) return copyFile(copy, source, path, size)
      return { read: async (offset, length) => source.text.subarray(offset, offset + length) }
    },
  }
}

async function combined(
  own: readonly TreeNode<CopySource>[],
  copy: Copy,
  earlier: readonly Copy[],
  reader: CopyReader,
): Promise<TreeNode<Source>[]> {
  const older = await Promise.all(
    earlier.map(async (one) => {
      const found = new Map<string, TreeNode<CopySource>>()
      for (const node of await copyNodes(one, reader)) if (node.kind === 'file') found.set(node.path, node)
      return { copy: one, found }
    }),
  )
  const nodes: TreeNode<Source>[] = []
  const segments: TreeNode<CopySource>[] = []
  for (const node of own) {
    if (nameOf(node.path).startsWith(INCREMENTAL_PREFIX) && node.kind === 'file') segments.push(node)
    else if (node.path === 'data/backup_label') nodes.push(await fullLabel(node, copy, reader))
    // It lists the files of the incremental backup, which are not those of the composed one.
    else if (node.path !== 'data/backup_manifest') nodes.push(node)
  }

  async function segment(node: TreeNode<CopySource>): Promise<TreeNode<Source>> {
    const path = fullPath(node.path)
    const first = copyFile(copy, sourceOf(node), node.path, node.size)
    const files: ChainFile[] = [{ kind: 'incremental', file: first }]
    for (const { copy: one, found } of older) {
      const full = found.get(path)
      if (full?.source !== undefined) {
        files.push({ kind: 'full', file: copyFile(one, full.source, path, full.size), bytes: full.size })
        break
      }
      const changed = found.get(node.path)
      if (changed?.source === undefined) throw noFullFile(path, copy.label, one.label)
      files.push({ kind: 'incremental', file: copyFile(one, changed.source, node.path, changed.size) })
    }
    if (files.at(-1)?.kind !== 'full') throw noFullFile(path, copy.label, earlier.at(-1)?.label ?? '')
    const size = blockCount(await readIncrementalHeader(first, reader.spool)) * BLOCK_BYTES
    const { mode, mtime } = node
    return { path, kind: 'file', mode, mtime, size, source: { chain: files } }
  }

  for (let n = 0; n < segments.length; n += HEADER_CONCURRENCY) {
    nodes.push(...(await Promise.all(segments.slice(n, n + HEADER_CONCURRENCY).map(segment))))
  }
  return nodes
}

/** backup_label without its incremental lines, with which PostgreSQL refuses to start. */
async function fullLabel(
  node: TreeNode<CopySource>,
  copy: Copy,
  { spool }: CopyReader,
): Promise<TreeNode<Source>> {
  const file = copyFile(copy, sourceOf(node), node.path, node.size)
  if (node.size > BLOCK_BYTES) throw new HowdahError('backup_damaged', `${file.description} is too long`)
  const label = (await spool.read(file, 0, node.size)).toString('utf8')
  const text = Buffer.from(label.replace(/^INCREMENTAL FROM (LSN|TLI): .*\n/gm, ''))
  const { source: _, ...rest } = node
  return { ...rest, size: text.length, source: { text } }
}

function sourceOf({ path, source }: TreeNode<CopySource>): CopySource {
  if (source === undefined) throw new HowdahError('internal', `${path} is a file without a source`)
  return source
}

const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1)
const fullPath = (path: string) =>
  path.slice(0, path.lastIndexOf('/') + 1) + nameOf(path).slice(INCREMENTAL_PREFIX.length)
