/**
 * The tree of an incremental backup as pg_combinebackup would write it: its own files, and for each incremental one the
 * files of older backups that complete it. Backups are taken up one after another, newest first, and of each only what is
 * needed is kept: a chain may list millions of files.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { pageLayout } from '../../pages/cluster-pages.ts'
import type { Spool } from '../../spool/spool.ts'
import type { TreeNode } from '../tree.ts'
import { visitInTurns } from '../turns.ts'
import { type BackupLabel, parseBackupLabel } from './backup-files.ts'
import { type CopiedFile, type Copy, type CopyReader, copiedFile, copyNodes, storedFile } from './copy.ts'
import type { CopySource } from './copy-locations.ts'
import { BLOCK_BYTES, blockCount, HEADER_BYTES, readIncrementalHeader } from './incremental-file.ts'

/** Incremental files whose headers are read concurrently. */
const HEADER_CONCURRENCY = 32
const PREFIX = 'INCREMENTAL.'
/** Elsewhere a file of that name is somebody's own (pg_combinebackup.c, process_directory_recursively). */
const WITH_RELATIONS = /^(data\/(base|global)|tblspc)\//
/** Of a segment, unless PostgreSQL was built otherwise (--with-segsize). */
const DEFAULT_MOST_BLOCKS = 131_072
const LABEL = 'data/backup_label'
const CONTROL = 'data/global/pg_control'

/** The files that a segment is composed of. */
export interface SegmentParts {
  readonly limit: number
  readonly newest: CopiedFile | undefined
  readonly older: readonly CopiedFile[]
  readonly full: CopiedFile
}

/** Where a file of the combined backup is, or what it is composed of, or its content. */
export type CombinedSource = CopySource | SegmentParts | { readonly text: Buffer }

export interface CombinedTree {
  readonly nodes: readonly TreeNode<CombinedSource>[]
  /** Blocks that a segment of the cluster can have. */
  readonly mostBlocks: number
}

/** An incremental file, while what completes it is looked for. */
interface Incomplete {
  readonly node: TreeNode<CopySource>
  readonly older: CopiedFile[]
  full: CopiedFile | undefined
  /** How many older backups had a file of it. */
  seen: number
}

interface LoadedCopy {
  readonly copy: Copy
  readonly nodes: readonly TreeNode<CopySource>[]
  readonly text: string
  readonly label: BackupLabel
}

/**
 * @param earlier open the older backups, newest first
 * @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable`
 */
export async function combinedTree(
  copy: Copy,
  earlier: readonly (() => Promise<Copy>)[],
  reader: CopyReader,
): Promise<CombinedTree> {
  const own = await load(copy, reader)
  const mostBlocks = await mostBlocksOf(own, reader.spool)
  const nodes: TreeNode<CombinedSource>[] = []
  const segments = new Map<string, Incomplete>()
  await visitInTurns(own.nodes, (node) => {
    if (isIncremental(node)) segments.set(node.path, { node, older: [], full: undefined, seen: 0 })
    else if (node.path === LABEL) nodes.push(fullLabel(node, own.text))
    // It lists the files of the incremental backup, which are not those of the combined one.
    else if (node.path !== 'data/backup_manifest') nodes.push(node)
  })
  await complete(own, segments, earlier, reader)
  const found = [...segments.values()]
  for (let n = 0; n < found.length; n += HEADER_CONCURRENCY) {
    const some = found.slice(n, n + HEADER_CONCURRENCY)
    nodes.push(...(await Promise.all(some.map((one) => segmentNode(copy, one, reader.spool, mostBlocks)))))
  }
  return { nodes, mostBlocks }
}

/** Finds for each incremental file what it builds on. */
async function complete(
  own: LoadedCopy,
  segments: ReadonlyMap<string, Incomplete>,
  earlier: readonly (() => Promise<Copy>)[],
  reader: CopyReader,
): Promise<void> {
  const incomplete = new Map(segments)
  let child = own
  let next = loadNext(earlier[0], reader)
  for (let age = 1; next !== undefined; age += 1) {
    const parent = await next
    next = loadNext(earlier[age], reader)
    checkParent(child, parent)
    await visitInTurns(parent.nodes, (node) => {
      if (node.kind !== 'file' || !WITH_RELATIONS.test(node.path)) return
      const isChange = isIncremental(node)
      const path = isChange ? node.path : incrementalPath(node.path)
      const segment = incomplete.get(path)
      if (segment === undefined) return
      segment.seen = age
      if (!isChange) {
        segment.full = copiedFile(parent.copy, node)
        incomplete.delete(path)
      } else if (!isEmpty(node, parent.copy)) segment.older.push(copiedFile(parent.copy, node))
    })
    for (const [path, { seen }] of incomplete) {
      if (seen !== age) throw noFullFile(path, own.copy.label, parent.copy.label)
    }
    child = parent
  }
  if (child.label.from !== undefined) {
    const { lsn, timeline } = child.label.from
    throw new HowdahError(
      'backup_damaged',
      `backup ${child.copy.label} builds on one that began at ${lsn} on timeline ${timeline}, which is not there`,
    )
  }
  for (const path of incomplete.keys()) throw noFullFile(path, own.copy.label, child.copy.label)
}

/** One backup ahead, so that two archives are decoded at once. */
function loadNext(open: (() => Promise<Copy>) | undefined, reader: CopyReader) {
  if (open === undefined) return undefined
  const loading = open().then((copy) => load(copy, reader))
  loading.catch(() => undefined)
  return loading
}

async function load(copy: Copy, reader: CopyReader): Promise<LoadedCopy> {
  const nodes = await copyNodes(copy, reader)
  const node = nodes.find(({ path }) => path === LABEL)
  if (node === undefined || node.size > BLOCK_BYTES) {
    throw new HowdahError('backup_damaged', `backup ${copy.label} has no backup_label, or too long a one`)
  }
  const file = storedFile(copiedFile(copy, node))
  const text = (await reader.spool.read(file, 0, node.size)).toString('utf8')
  return { copy, nodes, text, label: parseBackupLabel(text, file.description) }
}

/** As pg_combinebackup compares the backups that it is given. @throws HowdahError `backup_damaged` */
function checkParent(child: LoadedCopy, parent: LoadedCopy): void {
  const [name, below] = [child.copy.label, parent.copy.label]
  const wrong = (finding: string) => new HowdahError('backup_damaged', finding)
  const { from } = child.label
  if (from === undefined) {
    throw wrong(`backup ${name} is listed as building on ${below}, and is a full one by its backup_label`)
  }
  const { startLsn, timeline } = parent.label
  if (startLsn !== from.lsn || timeline !== from.timeline) {
    throw wrong(
      `backup ${name} builds on one that began at ${from.lsn} on timeline ${from.timeline}, and backup ${below} began at ${startLsn} on timeline ${timeline}`,
    )
  }
  const [own, other] = [child.copy.manifest?.systemIdentifier, parent.copy.manifest?.systemIdentifier]
  if (own !== undefined && other !== undefined && own !== other) {
    throw wrong(
      `backup ${name} is of the cluster with system identifier ${own}, and backup ${below}, on which it builds, of ${other}`,
    )
  }
}

/** @throws HowdahError `backup_unsupported` */
async function mostBlocksOf({ copy, nodes }: LoadedCopy, spool: Spool): Promise<number> {
  const node = nodes.find(({ path }) => path === CONTROL)
  if (node?.source === undefined) return DEFAULT_MOST_BLOCKS
  const control = await spool.read(storedFile(copiedFile(copy, node)), 0, Math.min(node.size, BLOCK_BYTES))
  const layout = pageLayout(control)
  if (layout === undefined || layout.pageBytes === BLOCK_BYTES) {
    return layout?.blocksPerFile ?? DEFAULT_MOST_BLOCKS
  }
  throw new HowdahError(
    'backup_unsupported',
    `backup ${copy.label} is incremental, of a PostgreSQL that was built with pages of ${layout.pageBytes} bytes; combine it by pg_combinebackup`,
  )
}

async function segmentNode(
  copy: Copy,
  { node, older, full }: Incomplete,
  spool: Spool,
  mostBlocks: number,
): Promise<TreeNode<CombinedSource>> {
  const own = copiedFile(copy, node)
  const header = await readIncrementalHeader(storedFile(own), spool, mostBlocks)
  const path = fullPath(node.path)
  if (full === undefined) throw noFullFile(node.path, copy.label, copy.label)
  const { mode, mtime } = node
  const parts: SegmentParts = {
    limit: header.truncation,
    newest: header.blocks.length === 0 ? undefined : own,
    older,
    full,
  }
  return { path, kind: 'file', mode, mtime, size: blockCount(header) * BLOCK_BYTES, source: parts }
}

/** backup_label without its incremental lines, with which PostgreSQL refuses to start. */
function fullLabel(node: TreeNode<CopySource>, label: string): TreeNode<CombinedSource> {
  const text = Buffer.from(label.replace(/^INCREMENTAL FROM (LSN|TLI): .*\n/gm, ''))
  const { source: _, ...rest } = node
  return { ...rest, size: text.length, source: { text } }
}

const nameStart = (path: string) => path.lastIndexOf('/') + 1
/** Whether a file has only what changed of another. */
export const isIncremental = ({ kind, path }: TreeNode<CopySource>) =>
  kind === 'file' && path.startsWith(PREFIX, nameStart(path)) && WITH_RELATIONS.test(path)
/** Whether an incremental file has no blocks. By its size, where a manifest confirms that: it is not opened for that. */
const isEmpty = ({ size }: TreeNode<CopySource>, { manifest }: Copy) =>
  size === HEADER_BYTES && manifest !== undefined
const incrementalPath = (path: string) =>
  `${path.slice(0, nameStart(path))}${PREFIX}${path.slice(nameStart(path))}`
const fullPath = (path: string) =>
  path.slice(0, nameStart(path)) + path.slice(nameStart(path) + PREFIX.length)

/** The error `backup_damaged` for a chain without a full file. */
const noFullFile = (path: string, label: string, oldest: string): HowdahError =>
  new HowdahError(
    'backup_damaged',
    `backup ${label} has only changes of ${fullPath(path)}, and backup ${oldest}, on which they are based, has no full file of it`,
  )
