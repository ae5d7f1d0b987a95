/**
 * Parses Barman's backup.info, the description of one backup: `key=value` per line, values as text or Python literals,
 * `None` for nothing (barman/infofile.py, from 1.x to 3.17). Untrusted.
 */

import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { lsnOf, segmentBefore } from '../../../wal/lsn.ts'
import { parsePython } from './python-literal.ts'

export interface BarmanTablespace {
  readonly oid: string
  /** Where it was in production. */
  readonly target: string
}

export interface BackupInfo {
  readonly summary: BackupSummary
  readonly status: string
  /** How the backup was taken: `rsync…`, `postgres`, `snapshot`, … */
  readonly mode: string
  readonly tablespaces: readonly BarmanTablespace[]
  readonly segmentBytes: number
}

/** Bytes; a list of a thousand tablespaces is far less. */
export const INFO_BYTES = 4 * 1024 * 1024

const LSN = /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/
/** The default of `initdb --wal-segsize`. Bytes. */
const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
const SEGMENT = /^[0-9A-F]{24}$/

/**
 * @param label the backup's id, by which its directory is named
 * @throws HowdahError `backup_damaged`
 */
export function parseBackupInfo(text: string, label: string, path: string): BackupInfo {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=')
    const value = line.slice(equals + 1).trim()
    if (equals > 0 && value !== 'None') values.set(line.slice(0, equals).trim(), value)
  }
  const wrong = (key: string) =>
    new HowdahError('backup_damaged', `${path} has no valid ${key} (backup ${label})`)

  function matching(key: string, pattern: RegExp): string | undefined {
    const value = values.get(key)
    if (value !== undefined && !pattern.test(value)) throw wrong(key)
    return value
  }
  function whole(key: string): number | undefined {
    const value = matching(key, /^\d{1,16}$/)
    if (value !== undefined && !Number.isSafeInteger(Number(value))) throw wrong(key)
    return value === undefined ? undefined : Number(value)
  }
  function time(key: string): string | undefined {
    const value = values.get(key)
    // Without a time zone it is the Barman host's local time, whose zone is unknown here.
    if (value === undefined || !/(Z|[+-]\d\d:?\d\d)$/.test(value)) return undefined
    const at = Date.parse(value.replace(' ', 'T').replace(/(\.\d{3})\d+/, '$1'))
    if (Number.isNaN(at)) throw wrong(key)
    return new Date(at).toISOString()
  }

  const version = whole('version')
  const parent = matching('parent_backup_id', /^[\w.-]{1,64}$/)
  const status = values.get('status') ?? 'EMPTY'
  const mode = values.get('mode') ?? ''
  const size = whole('size')
  const isCompressed = values.has('compression')
  const bytes = whole('cluster_size') ?? (isCompressed || parent !== undefined ? undefined : size)
  const repositoryBytes = whole('deduplicated_size') ?? size
  const timeline = whole('timeline') || undefined
  const segmentBytes = segmentBytesIn(whole('xlog_segment_size'))
  const stopLsn = matching('end_xlog', LSN)
  const stop = lsnOf(stopLsn)
  // From version 17 on, end_wal is one segment too far where the backup ends at a segment's end (pg_walfile_name).
  const lastWal =
    stop === undefined || timeline === undefined ? undefined : segmentBefore(stop, timeline, segmentBytes)
  const summary: BackupSummary = {
    label,
    type: parent === undefined ? 'full' : 'incremental',
    postgresVersion: version === undefined ? 'unknown' : majorVersion(version),
    ...defined({
      parent,
      startedAt: time('begin_time'),
      stoppedAt: time('end_time'),
      bytes,
      repositoryBytes,
      systemIdentifier: matching('systemid', /^\d{1,20}$/),
      startLsn: matching('begin_xlog', LSN),
      stopLsn,
      timeline,
      startWal: matching('begin_wal', SEGMENT),
      stopWal: lastWal ?? matching('end_wal', SEGMENT),
    }),
  }
  const reason = unusableReason(values, status, mode)
  return {
    summary: reason === undefined ? summary : { ...summary, unusable: reason },
    status,
    mode,
    segmentBytes,
    tablespaces: tablespacesIn(values.get('tablespaces'), () => wrong('tablespaces')),
  }
}

function unusableReason(
  values: ReadonlyMap<string, string>,
  status: string,
  mode: string,
): string | undefined {
  const error = values.get('error')
  if (mode.startsWith('snapshot') || values.has('snapshots_info')) {
    return 'it is a snapshot backup: its data is in volume snapshots of a cloud provider, not in this repository; take one with backup_method rsync or postgres, or attach the snapshots and publish from there'
  }
  const encryption = values.get('encryption')
  if (encryption !== undefined) {
    return `it is encrypted by ${encryption}, which needs a private key that Howdah does not take; decrypt it by Barman, or take one without encryption`
  }
  switch (status) {
    case 'DONE':
    case 'WAITING_FOR_WALS':
      return undefined
    case 'FAILED':
      return `it failed${error === undefined ? '' : `: ${error.slice(0, 300)}`}`
    case 'STARTED':
      // backup.info is written again when "barman backup --wait" has its WAL, and not before.
      return 'it is still being taken, its files are there and "barman backup --wait" waits for WAL, or it was interrupted; Barman says STARTED for all three'
    case 'EMPTY':
      return 'it is still being taken, or was interrupted'
    case 'SYNCING':
    case 'RETRIEVING':
      return 'it is still being copied from another Barman'
    default:
      return `its status is ${JSON.stringify(status.slice(0, 40))}, which Howdah does not know`
  }
}

function tablespacesIn(text: string | undefined, wrong: () => HowdahError): BarmanTablespace[] {
  if (text === undefined) return []
  try {
    const list = parsePython(text)
    if (!Array.isArray(list)) throw wrong()
    return list.map((item) => {
      if (!Array.isArray(item)) throw wrong()
      const [, oid, target] = item
      if (typeof oid !== 'number' || !/^\d{1,10}$/.test(String(oid)) || typeof target !== 'string')
        throw wrong()
      return { oid: String(oid), target }
    })
  } catch (error) {
    throw error instanceof HowdahError ? error : wrong()
  }
}

const segmentBytesIn = (size = DEFAULT_SEGMENT_BYTES) =>
  size >= 1024 * 1024 && size <= 1024 ** 3 && Number.isInteger(Math.log2(size)) ? size : DEFAULT_SEGMENT_BYTES

/** `server_version_num`: 150018 is of 15, 90624 of 9.6. */
const majorVersion = (version: number) =>
  version >= 100_000
    ? String(Math.floor(version / 10_000))
    : `${Math.floor(version / 10_000)}.${Math.floor((version / 100) % 100)}`

/** Without the keys whose values are undefined. */
function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}
