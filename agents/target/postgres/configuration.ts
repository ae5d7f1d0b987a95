/**
 * The settings that a published instance runs with, and the configuration file made for it. Pure.
 *
 * Everything is given as `-c name=value`, which wins over postgresql.conf and postgresql.auto.conf of the backup and
 * over ALTER SYSTEM. Parameters and the major versions that have them: the release notes and runtime-config pages of
 * each version's documentation; an unknown parameter would keep PostgreSQL from starting.
 */
import { type BackupConfiguration, parseMemory, type Settings } from './backup-configuration.ts'
import type { ControlData, RecoveryMinimums } from './control-data.ts'
import { listenAddresses } from './listening.ts'
import { type Override, QUARANTINE } from './quarantine.ts'
import { recoverySettings } from './recovery-settings.ts'
import { clusterName, type InstanceSpec, instancePaths, majorVersion, pauses } from './specification.ts'
import { userSettings } from './user-settings.ts'

export interface MachineMemory {
  /** Bytes of RAM. */
  readonly total: number
  /** Bytes of free huge pages. */
  readonly freeHugePages: number
}

export interface ConfigurationInput {
  readonly spec: InstanceSpec
  readonly backup: BackupConfiguration
  readonly control: ControlData
  readonly memory: MachineMemory
  /** Bytes free where pg_wal is; as much as anybody wants when it is not known. */
  readonly freeDisk?: number
  /** What `decidePreload` says. */
  readonly preload: ReadonlyMap<string, string>
}

/** PostgreSQL's defaults (postgresql.conf.sample) of what recovery has minimums for. */
const LIMIT_DEFAULTS: Record<keyof RecoveryMinimums, number> = {
  max_connections: 100,
  max_worker_processes: 8,
  max_wal_senders: 10,
  max_prepared_transactions: 0,
  max_locks_per_transaction: 64,
}

const SHARED_BUFFERS_DEFAULT = 128 * 1024 ** 2
const MAX_WAL_SIZE_DEFAULT = 1024 ** 3
const MIN_WAL_SIZE_DEFAULT = 80 * 1024 ** 2
const WAL_SEGMENT_DEFAULT = 16 * 1024 ** 2
/** What WAL may take of the free disk. */
const WAL_SHARE = 1 / 8
/** PostgreSQL wants two at least; fewer than these would have it checkpoint all the time. */
const FEWEST_WAL_SEGMENTS = 4

/** Arguments of `postgres`, without the program's own name. */
export function postgresArguments(input: ConfigurationInput): string[] {
  const settings = instanceSettings(input)
  return [
    '-D',
    instancePaths(input.spec).data,
    ...[...settings].flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]
}

/** The overrides by name, in the order in which they must be given. */
export function instanceSettings(input: ConfigurationInput): Map<string, string> {
  const { spec, backup, control, memory, preload } = input
  const version = majorVersion(spec.version)
  const settings = new Map<string, string>()
  const add = (overrides: readonly Override[]) => {
    for (const { name, value, from, to } of overrides) {
      if (version >= (from ?? 0) && version <= (to ?? Number.POSITIVE_INFINITY)) settings.set(name, value)
    }
  }
  add(placement(spec))
  add(QUARANTINE)
  add(WORKING)
  add(LOGGING)
  // Where nobody may connect before promotion, nothing is checked against limits that production raised since.
  settings.set('hot_standby', pauses(spec) ? 'on' : 'off')
  if (version >= 12) for (const [name, value] of recoverySettings(spec)) settings.set(name, value)
  for (const [name, value] of limits(backup, control)) settings.set(name, value)
  for (const [name, value] of memorySettings(backup, memory)) settings.set(name, value)
  // postgresql.auto.conf wins over the file in which fsync is turned on after the first recovery.
  if (backup.automatic.has('fsync')) settings.set('fsync', 'on')
  for (const [name, value] of walSettings(input)) settings.set(name, value)
  for (const [name, value] of preload) settings.set(name, value)
  for (const [name, value] of userSettings(spec)) settings.set(name, value)
  return settings
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

/** How the server works on this machine, whatever production has. */
const WORKING: readonly Override[] = [
  // io_uring is forbidden on many a machine where production has it.
  { name: 'io_method', value: 'worker', from: 18 },
  // Else PostgreSQL opens and syncs every single file of the mount before it recovers.
  { name: 'recovery_init_sync_method', value: 'syncfs', from: 14 },
]

/** The log goes where the agent reads it, in the language in which it reads it. */
const LOGGING: readonly Override[] = [
  { name: 'logging_collector', value: 'off' },
  { name: 'log_destination', value: 'stderr' },
  { name: 'log_min_messages', value: 'warning' },
  { name: 'log_line_prefix', value: '%m [%p] ' },
  { name: 'log_timezone', value: 'UTC' },
  { name: 'log_startup_progress_interval', value: '1s', from: 15 },
  { name: 'lc_messages', value: 'C' },
]

/** Limits that the backup's configuration has lower than production's pg_control, and what must go with them. */
function limits(backup: BackupConfiguration, control: ControlData): Map<string, string> {
  const raised = new Map<string, string>()
  for (const name of Object.keys(LIMIT_DEFAULTS) as (keyof RecoveryMinimums)[]) {
    const configured = Number(backup.settings.get(name) ?? LIMIT_DEFAULTS[name])
    const needed = control[name]
    if (needed !== undefined && !(configured >= needed)) raised.set(name, String(needed))
  }
  // PostgreSQL refuses to start with WAL senders at this level.
  if (raised.has('max_wal_senders') && backup.settings.get('wal_level') === 'minimal')
    raised.set('wal_level', 'replica')
  return raised
}

/** Production's shared_buffers where it takes at most a quarter of this machine, else that quarter. */
function memorySettings(backup: BackupConfiguration, memory: MachineMemory): Map<string, string> {
  const settings = new Map<string, string>()
  const asked = parseMemory(backup.settings.get('shared_buffers') ?? '', 8192) ?? SHARED_BUFFERS_DEFAULT
  const buffers = Math.min(asked, Math.max(memory.total / 4, 16 * 1024 ** 2))
  if (buffers < asked) settings.set('shared_buffers', `${Math.floor(buffers / 1024)}kB`)
  settings.set('huge_pages', memory.freeHugePages > buffers ? 'try' : 'off')
  return settings
}

/**
 * WAL lies in the write cache, beside what was changed: it must not fill a disk that is smaller than production's, for
 * PostgreSQL ends when it finds no room for WAL. And room that is made must not be lost to WAL kept for reuse.
 */
function walSettings({ spec, backup, control, freeDisk }: ConfigurationInput): Map<string, string> {
  const settings = new Map<string, string>()
  if (freeDisk === undefined) return settings
  const least = FEWEST_WAL_SEGMENTS * (control.walSegmentBytes ?? WAL_SEGMENT_DEFAULT)
  const bound = Math.max(least, freeDisk * WAL_SHARE)
  // A number without a unit was one of segments before version 10.
  const unit = majorVersion(spec.version) < 10 ? WAL_SEGMENT_DEFAULT : 1024 ** 2
  const asked = (name: string, otherwise: number) =>
    parseMemory(backup.settings.get(name) ?? '', unit) ?? otherwise
  for (const [name, wanted] of [
    ['max_wal_size', asked('max_wal_size', MAX_WAL_SIZE_DEFAULT)],
    ['min_wal_size', asked('min_wal_size', MIN_WAL_SIZE_DEFAULT)],
  ] as const)
    if (wanted > bound) settings.set(name, `${Math.floor(bound / 1024 ** 2)}MB`)
  return settings
}

/**
 * The configuration file that the instance is started with: the settings of the backup's own, if it has one, and what
 * must be able to change while the instance runs. All else is given on its command line and wins over this file.
 *
 * The backup's file itself is not included: it may include others that exist in production only, or are another
 * instance's here.
 * @param synced false until recovery is finished, see first-recovery.ts
 */
export function configFile(spec: InstanceSpec, fromBackup: Settings, synced: boolean): string {
  const lines = [
    `# Made by Howdah for session ${spec.session} of the backup's postgresql.conf; written anew when the instance starts.`,
    ...[...fromBackup]
      .filter(([name]) => name !== 'fsync')
      .map(([name, value]) => `${name} = ${quoted(value)}`),
    // Whatever the backup's file says: without fsync the end of a mount process would cost what was committed.
    `fsync = ${synced ? 'on' : 'off'}`,
  ]
  return `${lines.join('\n')}\n`
}

/** The same file with fsync on. */
export function withSync(file: string): string {
  return file.replace(/^fsync = off$/m, 'fsync = on')
}

function quoted(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}
