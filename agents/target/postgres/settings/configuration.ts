/**
 * The settings that a published instance runs with, and the configuration file made for it. Pure.
 *
 * What must hold is given as `-c name=value`, which wins over every file and over ALTER SYSTEM. All else of the backup
 * stands in the file, and nothing in both: PostgreSQL checks the values of a file even where the command line wins.
 * Parameters and the major versions that have them: the release notes and runtime-config pages of each version's
 * documentation; an unknown parameter would keep PostgreSQL from starting.
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
import { recoveryLimits } from './limits.ts'
import { listenAddresses } from './listening.ts'
import { type Override, QUARANTINE } from './quarantine.ts'
import { recoverySettings } from './recovery-settings.ts'
import { userSettings } from './user-settings.ts'

export interface MachineMemory {
  /** Bytes of RAM that this process may use. */
  readonly total: number
  /** Bytes of free huge pages. */
  readonly freeHugePages: number
  /** Bytes that the stack of a process may take; missing: as many as it likes. */
  readonly stack?: number
}

export interface ConfigurationInput {
  readonly spec: InstanceSpec
  /** Those of the backup. */
  readonly backup: Settings
  readonly control: Pick<ControlData, 'limits' | 'walSegmentBytes'>
  readonly memory: MachineMemory
  /** Bytes free where pg_wal is; as much as anybody wants when it is not known. */
  readonly freeDisk?: number
  /** What `decidePreload` says. */
  readonly preload: ReadonlyMap<string, string>
  /** Whether its first recovery is finished: see first-recovery.ts. */
  readonly recovered: boolean
}

/**
 * What is off until the first recovery is finished, and on from then on. Without fsync, the end of a mount process would
 * cost what was committed; nothing is before. And a server that crashes by itself before anybody can use it would go on
 * to crash for ever, instead of ending with what is wrong.
 */
const AFTER_RECOVERY = ['fsync', 'restart_after_crash'] as const

export interface InstanceSettings {
  /** For the command line, in the order in which they must be given. */
  readonly fixed: ReadonlyMap<string, string>
  /** For the configuration file; ALTER SYSTEM in the published instance wins over them. */
  readonly initial: ReadonlyMap<string, string>
}

const SHARED_BUFFERS_DEFAULT = 128 * 1024 ** 2
const MAX_WAL_SIZE_DEFAULT = 1024 ** 3
const MIN_WAL_SIZE_DEFAULT = 80 * 1024 ** 2
/** What a number without a unit counted of max_wal_size before version 10. */
const WAL_SEGMENT_DEFAULT = 16 * 1024 ** 2
/** What PostgreSQL wants to be left of the stack (STACK_DEPTH_SLOP of tcop/tcopprot.h). */
const STACK_SLOP = 512 * 1024
/** What WAL may take of the free disk. */
const WAL_SHARE = 1 / 8
/** PostgreSQL does not start with less, and its defaults are less where segments are large. */
const LEAST_WAL_SEGMENTS = 2
/** Fewer would have it checkpoint all the time. */
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
  // Where nobody may connect before promotion, nothing is checked against limits that production raised since.
  fixed.set('hot_standby', pausesAfterRecovery(spec) ? 'on' : 'off')
  if (input.recovered) for (const name of AFTER_RECOVERY) fixed.set(name, 'on')
  if (version >= 12) for (const [name, value] of recoverySettings(spec)) fixed.set(name, value)
  for (const [name, value] of preload) fixed.set(name, value)
  const initial = new Map([
    ...backup,
    ...recoveryLimits(input),
    ...memorySettings(input),
    ...walSettings(input),
  ])
  for (const [name, value] of userSettings(spec)) (fixed.has(name) ? fixed : initial).set(name, value)
  for (const name of [...fixed.keys(), ...AFTER_RECOVERY]) initial.delete(name)
  return { fixed, initial }
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
    // The directory is 0700; production's group need not exist here.
    { name: 'unix_socket_group', value: '' },
    { name: 'unix_socket_permissions', value: '0777' },
    { name: 'cluster_name', value: clusterName(spec.session) },
    { name: 'stats_temp_directory', value: 'pg_stat_tmp', to: 14 },
  ]
}

/** How the server works on this machine and on its mount, whatever production has. */
const WORKING: readonly Override[] = [
  // io_uring is forbidden on many a machine where production has it.
  { name: 'io_method', value: 'worker', from: 18 },
  // Past the page cache, every block that is read twice would be asked of the mount twice.
  { name: 'debug_io_direct', value: '', from: 16 },
  // Else PostgreSQL opens and syncs every single file of the mount before it recovers.
  { name: 'recovery_init_sync_method', value: 'syncfs', from: 14 },
  { name: 'shared_memory_type', value: 'mmap', from: 12 },
  // Files of it would lie in the mount.
  { name: 'dynamic_shared_memory_type', value: 'posix' },
  { name: 'min_dynamic_shared_memory', value: '0', from: 14 },
  // Processes of an instance are found by the name of its cluster in their titles.
  { name: 'update_process_title', value: 'on' },
  // A tool of developers, which ends recovery where a page is not the same bit by bit.
  { name: 'wal_consistency_checking', value: '', from: 10 },
  // It would look up the role NAME as NAME@DATABASE.
  { name: 'db_user_namespace', value: 'off', to: 16 },
  { name: 'pre_auth_delay', value: '0' },
  { name: 'post_auth_delay', value: '0' },
]

/**
 * The log goes where the agent reads it, in the language and the shape in which it reads it: `[PROCESS:SQLSTATE] ` and
 * one line for each part of a message.
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

/** Production's shared_buffers where it takes at most a quarter of this machine, else that quarter; a stack that fits. */
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
 * WAL lies in the write cache, beside what was changed: it must not fill a disk that is smaller than production's, for
 * PostgreSQL ends when it finds no room for WAL. And room that is made must not be lost to WAL kept for reuse.
 */
function walSettings({ spec, backup, control, freeDisk }: ConfigurationInput): Map<string, string> {
  const settings = new Map<string, string>()
  const bytes = control.walSegmentBytes
  const bound = Math.max(FEWEST_WAL_SEGMENTS * bytes, (freeDisk ?? Number.POSITIVE_INFINITY) * WAL_SHARE)
  // A number without a unit was one of segments before version 10.
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
 * The configuration file that the instance is started with: what production had, as far as it can be had here.
 *
 * The backup's file itself is not included: it may include others that exist in production only, or are another
 * instance's here.
 * @param recovered false until the first recovery is finished, see first-recovery.ts
 */
export function configFile(spec: InstanceSpec, initial: Settings, recovered: boolean): string {
  const lines = [
    `# Made by Howdah for session ${spec.session} of the backup's postgresql.conf and postgresql.auto.conf; written anew when the instance starts.`,
    ...[...initial].map(([name, value]) => `${name} = ${quoted(value)}`),
    ...(recovered ? [] : AFTER_RECOVERY.map((name) => `${name} = off`)),
  ]
  return `${lines.join('\n')}\n`
}

/** The same file for a server that has recovered. */
export function withFsync(file: string): string {
  return AFTER_RECOVERY.reduce((text, name) => text.replace(`\n${name} = off\n`, `\n${name} = on\n`), file)
}

function quoted(value: string): string {
  const escaped = value.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\n', '\\n')
  return `'${escaped}'`
}
