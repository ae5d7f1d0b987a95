/**
 * The settings of a published instance, and the configuration file generated for it. Pure.
 *
 * Mandatory settings are passed as `-c name=value`, which overrides every file and ALTER SYSTEM. Values that a user gave never
 * are, since every user of the machine can read a command line: they are in the file, with the backup's other settings. None
 * is in both, because PostgreSQL validates a value in a file even if the command line overrides it.
 * Parameters and the major versions that have them: the release notes and runtime-config pages of each version's
 * documentation; an unknown parameter prevents PostgreSQL from starting.
 */

import type { ControlData } from '../recovery/control-file.ts'
import {
  clusterName,
  type InstanceSpec,
  instancePaths,
  majorVersion,
  pausesAfterRecovery,
} from '../specification.ts'
import { parseMemory, type Settings } from './backup-configuration.ts'
import { settingLines } from './configuration-file.ts'
import { recoveryLimits } from './limits.ts'
import { listenAddresses } from './listening.ts'
import { type Override, QUARANTINE } from './quarantine.ts'
import { recoverySettings, recoveryTarget } from './recovery-settings.ts'
import { userSettings } from './user-settings.ts'

export interface MachineMemory {
  /** Bytes of RAM that this process may use. */
  readonly total: number
  /** Bytes of free huge pages. */
  readonly freeHugePages: number
  /** Limit of a process's stack, bytes; missing: unlimited. */
  readonly stack?: number
}

export interface ConfigurationInput {
  readonly spec: InstanceSpec
  /** Those of the backup. */
  readonly backup: Settings
  readonly control: Pick<ControlData, 'limits' | 'walSegmentBytes'>
  readonly memory: MachineMemory
  /** Free bytes on the file system of pg_wal; missing: unknown, no limit. */
  readonly freeDisk?: number
  /** Bytes of the write cache that are set aside for WAL; missing: no limit. */
  readonly walBytes?: number
  /** The settings of `decidePreload`. */
  readonly preload: ReadonlyMap<string, string>
  /** Whether the first recovery has finished: see first-recovery.ts. */
  readonly recovered: boolean
}

/**
 * Settings that are off until the first recovery has finished, and on afterwards. fsync protects commits from the loss of
 * the mount process, and there are none before. With restart_after_crash a server that crashes during recovery would
 * restart again and again, instead of ending with its error.
 */
const AFTER_RECOVERY = ['fsync', 'restart_after_crash'] as const

export interface InstanceSettings {
  /** For the command line, in the required order. */
  readonly fixed: ReadonlyMap<string, string>
  /** For the configuration file; ALTER SYSTEM in the published instance overrides them. */
  readonly initial: ReadonlyMap<string, string>
  /**
   * Values of the request that replace mandatory ones, for the end of the configuration file. What ALTER SYSTEM set instead
   * is removed at each start (automatic-settings.ts).
   */
  readonly given: ReadonlyMap<string, string>
}

const SHARED_BUFFERS_DEFAULT = 128 * 1024 ** 2
const MAX_WAL_SIZE_DEFAULT = 1024 ** 3
const MIN_WAL_SIZE_DEFAULT = 80 * 1024 ** 2
/** The unit of a max_wal_size without one, before version 10. */
const WAL_SEGMENT_DEFAULT = 16 * 1024 ** 2
/** The part of the stack that PostgreSQL keeps free (STACK_DEPTH_SLOP of tcop/tcopprot.h). */
const STACK_SLOP = 512 * 1024
/** The share of the free disk space that WAL may use. */
const WAL_SHARE = 1 / 8
/** PostgreSQL does not start with less, and its defaults are less with large segments. */
const LEAST_WAL_SEGMENTS = 2
/** With fewer PostgreSQL would checkpoint continuously. */
const FEWEST_WAL_SEGMENTS = 4

/** Arguments of `postgres`, without the program's own name. */
export function postgresArguments(spec: InstanceSpec, fixed: InstanceSettings['fixed']): string[] {
  return [
    '-D',
    instancePaths(spec).data,
    ...[...fixed].flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]
}

export function instanceSettings(input: ConfigurationInput): InstanceSettings {
  const { spec, backup, preload } = input
  const version = majorVersion(spec.version)
  const fixed = new Map<string, string>()
  const add = (overrides: readonly Override[]) => {
    for (const { name, value, from, to } of overrides) {
      if (version >= (from ?? 0) && version <= (to ?? Number.POSITIVE_INFINITY)) fixed.set(name, value)
    }
  }
  add(placement(spec))
  add(QUARANTINE)
  add(WORKING)
  add(LOGGING)
  // Without read-only connections, recovery does not check the limits that production has raised since the backup.
  fixed.set('hot_standby', pausesAfterRecovery(spec) ? 'on' : 'off')
  if (input.recovered) for (const name of AFTER_RECOVERY) fixed.set(name, 'on')
  const given = new Map<string, string>()
  if (version >= 12) {
    for (const [name, value] of recoverySettings(spec)) fixed.set(name, value)
    const { name, value } = recoveryTarget(spec)
    if (name !== undefined) given.set(name, value)
  }
  if (spec.listen !== undefined && spec.listen.length > 0)
    given.set('listen_addresses', listenAddresses(spec))
  for (const [name, value] of preload) fixed.set(name, value)
  const initial = new Map([
    ...backup,
    ...recoveryLimits(input),
    ...memorySettings(input),
    ...walSettings(input),
  ])
  for (const [name, value] of userSettings(spec)) (fixed.has(name) ? given : initial).set(name, value)
  for (const name of given.keys()) fixed.delete(name)
  for (const name of [...fixed.keys(), ...given.keys(), ...AFTER_RECOVERY]) initial.delete(name)
  return { fixed, initial, given }
}

function placement(spec: InstanceSpec): Override[] {
  const paths = instancePaths(spec)
  return [
    { name: 'config_file', value: paths.configFile },
    { name: 'data_directory', value: paths.data },
    { name: 'hba_file', value: paths.hba },
    { name: 'ident_file', value: paths.ident },
    { name: 'external_pid_file', value: `${paths.run}/postmaster.pid` },
    { name: 'port', value: String(spec.port) },
    { name: 'listen_addresses', value: listenAddresses(spec) },
    { name: 'unix_socket_directories', value: paths.run },
    // The directory has mode 0700; production's group may not exist here.
    { name: 'unix_socket_group', value: '' },
    { name: 'unix_socket_permissions', value: '0777' },
    { name: 'cluster_name', value: clusterName(spec.session) },
    { name: 'stats_temp_directory', value: 'pg_stat_tmp', to: 14 },
  ]
}

/** Settings that depend on this machine and on the mount, whatever production has. */
const WORKING: readonly Override[] = [
  // io_uring is often disabled by the kernel or a container, whatever production uses.
  { name: 'io_method', value: 'worker', from: 18 },
  // Direct I/O bypasses the page cache, so every repeated read would go to the mount.
  { name: 'debug_io_direct', value: '', from: 16 },
  // The default method opens and syncs every file of the mount before recovery.
  { name: 'recovery_init_sync_method', value: 'syncfs', from: 14 },
  { name: 'shared_memory_type', value: 'mmap', from: 12 },
  // The method "mmap" would create its files in the mount.
  { name: 'dynamic_shared_memory_type', value: 'posix' },
  { name: 'min_dynamic_shared_memory', value: '0', from: 14 },
  // Server processes are found by the cluster name in their titles.
  { name: 'update_process_title', value: 'on' },
  // A developer option that ends recovery when a page differs.
  { name: 'wal_consistency_checking', value: '', from: 10 },
  // Would look up the role NAME as NAME@DATABASE.
  { name: 'db_user_namespace', value: 'off', to: 16 },
  { name: 'pre_auth_delay', value: '0' },
  { name: 'post_auth_delay', value: '0' },
]

/**
 * The log is written where the agent reads it, in the format that it parses: in English, with `[PROCESS:SQLSTATE] ` and one
 * line for each part of a message.
 */
const LOGGING: readonly Override[] = [
  { name: 'logging_collector', value: 'off' },
  { name: 'log_destination', value: 'stderr' },
  { name: 'log_min_messages', value: 'warning' },
  { name: 'log_error_verbosity', value: 'default' },
  { name: 'log_line_prefix', value: '%m [%p:%e] ' },
  { name: 'log_timezone', value: 'UTC' },
  { name: 'log_startup_progress_interval', value: '1s', from: 15 },
  { name: 'lc_messages', value: 'C' },
]

/** Production's shared_buffers, limited to a quarter of this machine's memory, and its max_stack_depth, limited likewise. */
function memorySettings({ backup, memory }: ConfigurationInput): Map<string, string> {
  const settings = new Map<string, string>()
  const asked = parseMemory(backup.get('shared_buffers') ?? '', 8192) ?? SHARED_BUFFERS_DEFAULT
  const buffers = Math.min(asked, Math.max(memory.total / 4, 16 * 1024 ** 2))
  if (buffers < asked) settings.set('shared_buffers', `${Math.floor(buffers / 1024)}kB`)
  settings.set('huge_pages', memory.freeHugePages > buffers ? 'try' : 'off')
  const stack = parseMemory(backup.get('max_stack_depth') ?? '', 1024) ?? 0
  const most = (memory.stack ?? Number.POSITIVE_INFINITY) - STACK_SLOP
  if (stack > most) settings.set('max_stack_depth', `${Math.floor(most / 1024)}kB`)
  return settings
}

/**
 * WAL is in the write cache, beside the changed blocks. It must not fill a disk that is smaller than production's, because
 * PostgreSQL ends when it cannot write WAL; and recycled segments must not occupy space that was freed.
 */
function walSettings({
  spec,
  backup,
  control,
  freeDisk = Number.POSITIVE_INFINITY,
  walBytes = Number.POSITIVE_INFINITY,
}: ConfigurationInput): Map<string, string> {
  const settings = new Map<string, string>()
  const bytes = control.walSegmentBytes
  const bound = Math.max(FEWEST_WAL_SEGMENTS * bytes, Math.min(freeDisk * WAL_SHARE, walBytes))
  // Before version 10 a number without a unit counted segments.
  const unit = majorVersion(spec.version) < 10 ? WAL_SEGMENT_DEFAULT : 1024 ** 2
  const asked = (name: string, otherwise: number) => parseMemory(backup.get(name) ?? '', unit) ?? otherwise
  for (const [name, wanted] of [
    ['max_wal_size', asked('max_wal_size', MAX_WAL_SIZE_DEFAULT)],
    ['min_wal_size', asked('min_wal_size', MIN_WAL_SIZE_DEFAULT)],
  ] as const) {
    const fitting = Math.min(bound, Math.max(wanted, LEAST_WAL_SEGMENTS * bytes))
    if (fitting !== wanted) settings.set(name, `${Math.floor(fitting / 1024 ** 2)}MB`)
  }
  return settings
}

/**
 * The configuration file of the instance: production's settings, as far as this machine supports them.
 *
 * It does not include the backup's file, which may include files that exist in production only, or that belong to another
 * instance here.
 * @param settings `initial` and `given` of its settings
 * @param recovered false until the first recovery has finished, see first-recovery.ts
 */
export function configFile(spec: InstanceSpec, settings: Settings, recovered: boolean): string {
  const head = `# Made by Howdah for session ${spec.session} of the backup's postgresql.conf and postgresql.auto.conf; written anew when the instance starts.\n`
  const off = recovered ? [] : AFTER_RECOVERY.map((name) => `${name} = off\n`)
  return [head, settingLines(settings), ...off].join('')
}

/** The same file for a server that has finished its first recovery. */
export function withFsync(file: string): string {
  return AFTER_RECOVERY.reduce((text, name) => text.replace(`\n${name} = off\n`, `\n${name} = on\n`), file)
}
