/**
 * Parses `global/pg_control`: the state of a cluster, the progress of its recovery, and the limits with which its WAL was
 * written. Pure.
 *
 * Layouts: ControlFileData and CheckPoint of src/include/catalog/pg_control.h in each major version, on 64-bit
 * little-endian machines. `pg_control_version` names the layout; versions 13 to 16 share one.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { knownVersions } from '../../../../messages/postgres-versions.ts'
import { crc32c } from '../../../wal/crc32c.ts'

/** Settings of production at the time of the backup; recovery requires at least these values. */
export interface RecoveryMinimums {
  readonly max_connections?: number
  readonly max_worker_processes?: number
  readonly max_wal_senders?: number
  readonly max_prepared_transactions?: number
  readonly max_locks_per_transaction?: number
}

/** DBState, in the order of its values. */
export const CLUSTER_STATES = [
  'starting up',
  'shut down',
  'shut down in recovery',
  'shutting down',
  'in crash recovery',
  'in archive recovery',
  'in production',
] as const
export type ClusterState = (typeof CLUSTER_STATES)[number]

export interface ControlData {
  readonly state: ClusterState
  readonly timeline: number
  /** When the last checkpoint was made, seconds since 1970. */
  readonly checkpointTime: number
  /** Recovery must not end before this LSN; 0: no minimum. */
  readonly minRecoveryPoint: bigint
  /** Whether the end of a backup is still to be replayed. */
  readonly backupEndAwaited: boolean
  readonly walSegmentBytes: number
  readonly limits: RecoveryMinimums
}

/** Byte offsets of the fields, and of the checksum, which covers everything before it. */
interface Layout {
  readonly timeline: number
  readonly checkpointTime: number
  readonly minRecoveryPoint: number
  readonly backupStartPoint: number
  readonly backupEndRequired: number
  readonly limits: Readonly<Partial<Record<keyof RecoveryMinimums, number>>>
  readonly walSegmentBytes: number
  readonly crc: number
}

const SINCE_12: Layout = {
  timeline: 48,
  checkpointTime: 104,
  minRecoveryPoint: 136,
  backupStartPoint: 152,
  backupEndRequired: 168,
  limits: {
    max_connections: 180,
    max_worker_processes: 184,
    max_wal_senders: 188,
    max_prepared_transactions: 192,
    max_locks_per_transaction: 196,
  },
  walSegmentBytes: 228,
  crc: 288,
}

/** Without max_wal_senders, and with 32-bit transaction ids. */
const IN_11: Layout = {
  timeline: 48,
  checkpointTime: 96,
  minRecoveryPoint: 128,
  backupStartPoint: 144,
  backupEndRequired: 160,
  limits: {
    max_connections: 172,
    max_worker_processes: 176,
    max_prepared_transactions: 180,
    max_locks_per_transaction: 184,
  },
  walSegmentBytes: 220,
  crc: 280,
}

/** With the position of the previous checkpoint. */
const IN_10: Layout = {
  timeline: 56,
  checkpointTime: 104,
  minRecoveryPoint: 136,
  backupStartPoint: 152,
  backupEndRequired: 168,
  limits: {
    max_connections: 180,
    max_worker_processes: 184,
    max_prepared_transactions: 188,
    max_locks_per_transaction: 192,
  },
  walSegmentBytes: 228,
  crc: 288,
}

const LAYOUTS: ReadonlyMap<number, Layout> = new Map([
  // 9.6 ends before the 32 bytes of the mock authentication nonce.
  [960, { ...IN_10, crc: 256 }],
  [1002, IN_10],
  [1100, IN_11],
  [1201, SINCE_12],
  [1300, SINCE_12],
  [1700, SINCE_12],
  // 18 says whether `char` is signed.
  [1800, { ...SINCE_12, crc: 292 }],
])

const VERSION = 8
const STATE = 16

const NEWEST = Math.max(...LAYOUTS.keys())
/** What PostgreSQL 99 could have. A larger number is of a damaged file. */
const LARGEST = 99_00

/**
 * @throws HowdahError `backup_unsupported` for the format of a newer PostgreSQL; another Error, which says what is wrong with
 *   the bytes
 */
export function parseControlFile(bytes: Buffer): ControlData {
  const version = bytes.length >= STATE ? bytes.readUInt32LE(VERSION) : 0
  const layout = LAYOUTS.get(version)
  if (layout === undefined && version > NEWEST && version <= LARGEST)
    throw new HowdahError(
      'backup_unsupported',
      `pg_control of the backup has the format ${version}, of a PostgreSQL that this release of Howdah does not know; it publishes ${knownVersions()}.`,
    )
  if (layout === undefined) throw new Error(`its format has the unknown version ${version}`)
  if (bytes.length < layout.crc + 4) throw new Error(`it has ${bytes.length} bytes only`)
  if (crc32c(bytes.subarray(0, layout.crc)) !== bytes.readUInt32LE(layout.crc))
    throw new Error('its checksum is wrong')
  const state = CLUSTER_STATES[bytes.readUInt32LE(STATE)]
  if (state === undefined) throw new Error(`it names the unknown cluster state ${bytes.readUInt32LE(STATE)}`)
  const limits = Object.entries(layout.limits).map(([name, at]) => [name, bytes.readInt32LE(at)])
  return {
    state,
    timeline: bytes.readUInt32LE(layout.timeline),
    checkpointTime: Number(bytes.readBigInt64LE(layout.checkpointTime)),
    minRecoveryPoint: bytes.readBigUInt64LE(layout.minRecoveryPoint),
    backupEndAwaited:
      bytes.readBigUInt64LE(layout.backupStartPoint) !== 0n || bytes[layout.backupEndRequired] !== 0,
    walSegmentBytes: bytes.readUInt32LE(layout.walSegmentBytes),
    limits: Object.fromEntries(limits),
  }
}
