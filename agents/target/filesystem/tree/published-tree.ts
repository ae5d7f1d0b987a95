/**
 * What publishing does to a backup's file tree: which entries are hidden, which are added and whom nothing may reach.
 * Knows PostgreSQL's directory layout; reads and writes nothing itself.
 */
import { posix } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { TreeEntry } from '../../../dataplane/backup-source.ts'

/** A file that publishing adds, for example `data/recovery.signal`. It takes the place of a file of the backup. */
export interface ExtraFile {
  /** As `TreeEntry.path`. Its directory must exist. */
  readonly path: string
  readonly content: string
  readonly mode?: number
}

export type PublishedEntry = TreeEntry & {
  /** Of an extra file, instead of `file`. */
  readonly content?: string
}

export interface PublishOptions {
  /** Absolute path under which the tree appears. */
  readonly mountPoint: string
  /** Absolute path of the local directory that `data/pg_wal` leads to. */
  readonly walDirectory: string
  readonly extraFiles: readonly ExtraFile[]
  /** Modification time of what is added, in seconds since the epoch. */
  readonly now: number
  /** Told of symbolic links that are left out because they lead out of the backup. */
  readonly onDropped?: (path: string, linkTarget: string) => void
}

/** Would make the instance a standby, disturb production, or belongs to the postmaster that ran there. */
const HIDDEN_FILES = new Set(
  [
    'tablespace_map',
    'postmaster.pid',
    'postmaster.opts',
    'standby.signal',
    'recovery.signal',
    'recovery.conf',
    'recovery.done',
  ].map((name) => `data/${name}`),
)

/**
 * Directories whose contents PostgreSQL makes anew at start, or that would hold WAL back (replication slots).
 * Source: PostgreSQL documentation, "Backing Up the Data Directory".
 */
const EMPTIED_DIRECTORIES = [
  'pg_dynshmem',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
]

const NEEDED_DIRECTORIES = [
  ...EMPTIED_DIRECTORIES,
  'pg_commit_ts',
  'pg_logical',
  'pg_logical/mappings',
  'pg_logical/snapshots',
  'pg_stat',
  'pg_tblspc',
  'pg_twophase',
].map((name) => `data/${name}`)

const HIDDEN_BELOW = [...EMPTIED_DIRECTORIES, 'pg_wal', 'pg_tblspc'].map((name) => `data/${name}/`)

/**
 * The tree as it is published: `data/`, `tblspc/<oid>/` and `wal/` below the root, parents before children, in the
 * same order for the same input.
 * @throws HowdahError `backup_damaged` when a path is not normalised or lies elsewhere
 */
export async function* publishedTree(
  batches: AsyncIterable<readonly TreeEntry[]>,
  options: PublishOptions,
): AsyncGenerator<readonly PublishedEntry[]> {
  const added = { mtime: options.now, size: 0 }
  const replaced = new Set(options.extraFiles.map((file) => file.path))
  const directories = new Set<string>()
  const tablespaces: string[] = []
  // Most entries lie where the one before them does, and then only the name is new.
  let directory = ''
  let hiddenDirectory = false

  function publish(batch: readonly TreeEntry[]): readonly PublishedEntry[] {
    const published: PublishedEntry[] = []
    for (const entry of batch) {
      const { path, kind, mtime, size, file } = entry
      const slash = path.lastIndexOf('/')
      if (
        slash <= 0 ||
        slash !== directory.length ||
        !path.startsWith(directory) ||
        !isPlainName(path, slash + 1)
      ) {
        checkPath(path)
        if (path === 'data' || path === 'tblspc') continue
        directory = path.slice(0, slash)
        hiddenDirectory = isHidden(`${directory}/`)
        // Below it only numbers are names.
        if (directory === 'tblspc') directory = ''
      }
      if (hiddenDirectory || isHiddenName(path, slash + 1) || replaced.has(path)) continue
      if (entry.kind === 'symlink' && pointsOutside(entry)) {
        options.onDropped?.(entry.path, entry.linkTarget ?? '')
        continue
      }
      if (entry.kind === 'directory') {
        directories.add(entry.path)
        const tablespace = /^tblspc\/(\d+)$/.exec(entry.path)?.[1]
        if (tablespace !== undefined) tablespaces.push(tablespace)
      }
      const mode = publishedMode(entry)
      // Spelled out: a copy of each of 100,000 entries takes longer than all the rest.
      if (file !== undefined) published.push({ path, kind, mode, mtime, size, file })
      else published.push(entry.mode === mode ? entry : { ...entry, mode })
    }
    return published
  }

  yield ['data', 'tblspc', 'wal'].map((path) => ({ ...added, path, kind: 'directory' as const, mode: 0o700 }))

  for await (const batch of batches) {
    const published = publish(batch)
    if (published.length > 0) yield published
  }

  yield [
    ...NEEDED_DIRECTORIES.filter((path) => !directories.has(path)).map((path) => ({
      ...added,
      path,
      kind: 'directory' as const,
      mode: 0o700,
    })),
    symlink('data/pg_wal', options.walDirectory),
    ...tablespaces.map((oid) => symlink(`data/pg_tblspc/${oid}`, `${options.mountPoint}/tblspc/${oid}`)),
    ...options.extraFiles.map((file) => ({
      ...added,
      path: file.path,
      kind: 'file' as const,
      mode: file.mode ?? 0o600,
      size: Buffer.byteLength(file.content),
      content: file.content,
    })),
  ]

  function symlink(path: string, linkTarget: string): PublishedEntry {
    return { ...added, path, kind: 'symlink', mode: 0o777, linkTarget }
  }
}

/** Whether all in a directory is; its path ends in `/`. */
function isHidden(directory: string): boolean {
  if (directory.startsWith('data/pg_') && HIDDEN_BELOW.some((prefix) => directory.startsWith(prefix)))
    return true
  return directory.includes(TEMPORARY)
}

function isHiddenName(path: string, nameAt: number): boolean {
  if (nameAt === 'data/'.length && (HIDDEN_FILES.has(path) || path === 'data/pg_wal')) return true
  return path.startsWith(TEMPORARY, nameAt - 1)
}

/** Temporary files and directories of the queries that ran during the backup; PostgreSQL makes the directory again. */
const TEMPORARY = '/pgsql_tmp'

/** The server must be able to use everything, and nothing runs with another user's identity. */
function publishedMode(entry: TreeEntry): number {
  if (entry.kind === 'symlink') return 0o777
  return (entry.mode & 0o777) | (entry.kind === 'directory' ? 0o700 : 0o600)
}

/** A link out of the backup would lead to production's files, or to whatever is there on the target. */
function pointsOutside(entry: TreeEntry): boolean {
  const target = entry.linkTarget ?? ''
  if (target === '' || target.startsWith('/') || target.includes('\0')) return true
  return posix.join(posix.dirname(entry.path), target).startsWith('..')
}

/** Parts are no `.` and no `..`; one expression, because a backup may have very many files. */
const NORMAL_PATH = /^(?:data|tblspc|tblspc\/\d+)(?:(?<!^tblspc)\/(?!\.{1,2}(?:\/|$))[^/\0]+)*$/
const MAX_PART_BYTES = 255
const DOT = 46

/** Whether what `path` has from there on is a name that needs no closer look. */
function isPlainName(path: string, nameAt: number): boolean {
  const { length } = path
  if (length - nameAt > MAX_PART_BYTES / 4 || length === nameAt) return false
  return path.charCodeAt(nameAt) !== DOT && !path.includes('\0', nameAt)
}

function checkPath(path: string): void {
  const normal =
    NORMAL_PATH.test(path) &&
    (path.length < MAX_PART_BYTES / 4 ||
      path.split('/').every((part) => Buffer.byteLength(part) <= MAX_PART_BYTES))
  if (!normal) {
    throw new HowdahError(
      'backup_damaged',
      `the backup names a file ${JSON.stringify(path)}, which cannot be published`,
    )
  }
}
