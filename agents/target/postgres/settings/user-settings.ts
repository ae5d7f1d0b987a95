/** The settings that a user gives for a published instance: which are allowed, and whether PostgreSQL accepts them. */
import { HowdahError } from '../../../../messages/errors.ts'
import type { InstanceOptions } from '../specification.ts'
import type { Settings } from './backup-configuration.ts'
import { libraryFinder } from './library-finder.ts'
import { listenAddresses } from './listening.ts'
import { decidePreload } from './preload-libraries.ts'
import { findRefusals, problemOfSettings, type Trial } from './settings-trial.ts'

/** Settings that Howdah depends on, with what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  listen_addresses: 'give addresses to listen on by "--listen"',
  port: 'choose the port by "--port"',
  hba_file: 'give the content of pg_hba.conf by "--hba-file"',
  recovery_target: 'choose the target by "--recover-to"',
  hot_standby: 'publish with "--after-recovery pause" to look first',
  fsync: 'without it, changes that were committed could be lost',
  lc_messages: 'the log is read in English; a session may SET it',
  log_error_verbosity: 'the log is read; a session may SET it',
  max_logical_replication_workers: 'the subscriptions of the backup would take over those of production',
  'citus.cluster_name': "the instance would work on production's worker nodes",
}
const REFUSED_WITHOUT_ADVICE: ReadonlySet<string> = new Set([
  ...['config_file', 'data_directory', 'ident_file', 'external_pid_file', 'unix_socket_directories'],
  ...['unix_socket_group', 'unix_socket_permissions', 'cluster_name', 'restore_command'],
  ...['primary_conninfo', 'primary_slot_name', 'promote_trigger_file', 'ssl_passphrase_command'],
  ...['recovery_end_command', 'archive_cleanup_command', 'recovery_min_apply_delay', 'archive_mode'],
  ...['archive_command', 'archive_library', 'sync_replication_slots', 'synchronized_standby_slots'],
  ...['synchronous_standby_names', 'logging_collector', 'log_destination', 'log_min_messages'],
  ...['log_line_prefix', 'log_timezone', 'update_process_title', 'recovery_init_sync_method'],
])

/** Beside these, all that begin with `recovery_target` or `wal_receiver_`. */
export const REFUSED_SETTINGS: readonly string[] = [...Object.keys(REFUSED), ...REFUSED_WITHOUT_ADVICE]

/** Values of refused settings that equal Howdah's own. */
const ALREADY: Readonly<Record<string, string>> = {
  max_logical_replication_workers: '0',
  archive_mode: 'off',
}

/** The settings by lower-case name, as in PostgreSQL. @throws HowdahError `configuration` for one that is refused */
export function userSettings({ settings = {} }: Pick<InstanceOptions, 'settings'>): Map<string, string> {
  const taken = new Map<string, string>()
  for (const [given, value] of Object.entries(settings)) {
    const name = given.toLowerCase()
    const advice = REFUSED[name.startsWith('recovery_target') ? 'recovery_target' : name]
    const refused =
      advice !== undefined || REFUSED_WITHOUT_ADVICE.has(name) || name.startsWith('wal_receiver_')
    if (refused && ALREADY[name] !== value.toLowerCase())
      throw wrong(name, `cannot be set: Howdah needs it${advice === undefined ? '' : `; ${advice}`}.`)
    if (value.includes('\0')) throw wrong(name, 'has a value that no setting can have.')
    taken.set(name, value)
  }
  return taken
}

/**
 * Validates the options of a request, as far as that is possible before there is an instance.
 * @returns one error for each finding
 */
export async function optionFindings(options: InstanceOptions, trial: Trial): Promise<HowdahError[]> {
  const findings: HowdahError[] = []
  const collect = (validate: () => unknown) => {
    try {
      validate()
    } catch (error) {
      if (!(error instanceof HowdahError)) throw error
      findings.push(error)
    }
  }
  collect(() => listenAddresses(options))
  const given = options.settings ?? {}
  for (const [name, value] of Object.entries(given))
    collect(() => userSettings({ settings: { [name]: value } }))
  if (findings.length > 0) return findings
  const refusals = await findRefusals(Object.keys(given), (names) =>
    problemOfSettings(new Map(names.map((name) => [name, given[name] ?? ''])), trial),
  )
  const refused = refusals.map(({ name, reason }) =>
    wrong(name.toLowerCase(), `cannot be "${given[name]}": ${reason}`),
  )
  return refused.length > 0 ? refused : missingLibraries(userSettings(options), trial)
}

async function missingLibraries(given: Settings, { binaries }: Trial): Promise<HowdahError[]> {
  try {
    await decidePreload(new Map(), [], given, libraryFinder(binaries, given.get('dynamic_library_path')))
    return []
  } catch (error) {
    if (!(error instanceof HowdahError)) throw error
    return [error]
  }
}

function wrong(name: string, problem: string): HowdahError {
  return new HowdahError('configuration', `The setting ${name} ${problem}`, { field: `settings.${name}` })
}
