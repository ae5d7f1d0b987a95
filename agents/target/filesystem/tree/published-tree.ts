/**
 * How a backup's file tree is changed for publishing: which entries are hidden, added or refused. Knows PostgreSQL's
 * directory layout; does no I/O itself.
 */
import { posix } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { TreeEntry } from '../../../dataplane/backup-source.ts'

/** A file that publishing adds, for example `data/recovery.signal`. It replaces a file of the backup with that path. */
export interface ExtraFile {
  /** As `TreeEntry.path`. Its directory must exist. */
  readonly path: string
  readonly content: string
  readonly mode?: number
}

export type PublishedEntry = TreeEntry & {
  /** Content of an extra file, instead of `file`. */
  readonly content?: string
}

export interface PublishOptions {
  /** Absolute path under which the tree appears. */
  readonly mountPoint: string
  /** Absolute path of the local directory that `data/pg_wal` points to. */
  readonly walDirectory: string
  readonly extraFiles: readonly ExtraFile[]
  /** Modification time of added entries, in seconds since the epoch. */
  readonly now: number
  /** Called for each symbolic link that is omitted because it points out of the backup. */
  readonly onDropped?: (path: string, linkTarget: string) => void
}

/** Files that would make the instance a standby, disturb production, or belong to production's postmaster. */
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
 * Directories whose contents PostgreSQL recreates at start, or that would retain WAL (replication slots).
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
  // Most entries are in the same directory as the previous one, and then only the name is checked.
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
        // Its entries are numbers only, which checkPath verifies.
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
      // Members listed one by one: spreading each of 100,000 entries would take most of the time.
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

/** Whether everything in a directory is hidden; its path ends in `/`. */
function isHidden(directory: string): boolean {
  if (directory.startsWith('data/pg_') && HIDDEN_BELOW.some((prefix) => directory.startsWith(prefix)))
    return true
  return directory.includes(TEMPORARY)
}

function isHiddenName(path: string, nameAt: number): boolean {
  if (nameAt === 'data/'.length && (HIDDEN_FILES.has(path) || path === 'data/pg_wal')) return true
  return path.startsWith(TEMPORARY, nameAt - 1)
}

/** Temporary files and directories of queries that ran during the backup; PostgreSQL recreates the directory. */
const TEMPORARY = '/pgsql_tmp'

/** The server can access everything, and set-user-ID and set-group-ID bits are dropped. */
function publishedMode(entry: TreeEntry): number {
  if (entry.kind === 'symlink') return 0o777
  return (entry.mode & 0o777) | (entry.kind === 'directory' ? 0o700 : 0o600)
}

/** A link out of the backup would point to production's files, or to unrelated files of the target. */
function pointsOutside(entry: TreeEntry): boolean {
  const target = entry.linkTarget ?? ''
  if (target === '' || target.startsWith('/') || target.includes('\0')) return true
  return posix.join(posix.dirname(entry.path), target).startsWith('..')
}

/** No part is `.` or `..`; one expression, because a backup may have very many files. */
const NORMAL_PATH = /^(?:data|tblspc|tblspc\/\d+)(?:(?<!^tblspc)\/(?!\.{1,2}(?:\/|$))[^/\0]+)*$/
const MAX_PART_BYTES = 255
const DOT = 46

/** Whether the part of `path` from `nameAt` on is clearly a valid name, without the full check. */
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
