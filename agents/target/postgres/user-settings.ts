/** The settings that a user gives for a published instance: which may be given, and whether PostgreSQL takes them. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'
import { listenAddresses } from './listening.ts'
import type { InstanceOptions, SystemUser } from './specification.ts'
import { identity } from './user-process.ts'

const run = promisify(execFile)

/** Settings that Howdah works by, with what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  listen_addresses: 'give addresses to listen on by "--listen"',
  port: 'choose the port by "--port"',
  hba_file: 'give the content of pg_hba.conf by "--hba-file"',
  recovery_target: 'choose the target by "--recover-to"',
  hot_standby: 'publish with "--after-recovery pause" to look first',
  fsync: 'without it, changes that were committed could be lost',
}
const REFUSED_WITHOUT_ADVICE: ReadonlySet<string> = new Set([
  ...['config_file', 'data_directory', 'ident_file', 'external_pid_file', 'unix_socket_directories'],
  ...['unix_socket_group', 'unix_socket_permissions', 'cluster_name', 'restore_command'],
  ...['primary_conninfo', 'primary_slot_name', 'promote_trigger_file'],
  ...['logging_collector', 'log_destination', 'log_min_messages', 'log_line_prefix', 'lc_messages'],
])
const DEADLINE = 30_000

/** The settings by lower-case names, as PostgreSQL has them. @throws HowdahError `configuration` for one that is refused */
export function userSettings({ settings = {} }: Pick<InstanceOptions, 'settings'>): Map<string, string> {
  const taken = new Map<string, string>()
  for (const [given, value] of Object.entries(settings)) {
    const name = given.toLowerCase()
    const advice = REFUSED[name.startsWith('recovery_target') ? 'recovery_target' : name]
    if (advice !== undefined || REFUSED_WITHOUT_ADVICE.has(name))
      throw wrong(name, `cannot be set: Howdah needs it${advice === undefined ? '' : `; ${advice}`}.`)
    if (value.includes('\0')) throw wrong(name, 'has a value that no setting can have.')
    taken.set(name, value)
  }
  return taken
}

/**
 * Everything that is wrong with what a user gave and that can be known before there is an instance.
 * @param binaries directory of the executables of the backup's major version
 * @returns one error for each finding
 */
export async function optionFindings(
  options: InstanceOptions,
  binaries: string,
  user: SystemUser,
): Promise<HowdahError[]> {
  const findings: HowdahError[] = []
  const collect = (look: () => unknown) => {
    try {
      look()
    } catch (error) {
      if (!(error instanceof HowdahError)) throw error
      findings.push(error)
    }
  }
  collect(() => listenAddresses(options))
  const given = Object.entries(options.settings ?? {})
  for (const [name, value] of given) collect(() => userSettings({ settings: { [name]: value } }))
  if (findings.length > 0 || given.length === 0) return findings
  // Together they take one process; only when that fails is it worth asking for each.
  if ((await complaint(given, binaries, user)) === undefined) return []
  for (const [name, value] of given) {
    const said = await complaint([[name, value]], binaries, user)
    if (said !== undefined) findings.push(wrong(name.toLowerCase(), `cannot be "${value}": ${said}`))
  }
  return findings
}

/**
 * What PostgreSQL says about settings; undefined: nothing. `-C` prints one and ends before it looks at a data directory
 * (PostgreSQL documentation, "postgres", options for semi-internal use).
 */
async function complaint(
  settings: readonly (readonly [string, string])[],
  binaries: string,
  user: SystemUser,
): Promise<string | undefined> {
  const given = settings.flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const args = ['-D', '/', '-c', 'config_file=/dev/null', '-C', 'port', ...given]
  const options = { ...identity(user), cwd: '/', env: { LC_ALL: 'C' }, timeout: DEADLINE }
  try {
    await run(`${binaries}/postgres`, args, options)
    return undefined
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string; message: string }
    const lines = stderr.split('\n').filter((line) => !/LOG: {2}/.test(line))
    return (
      lines
        .join(' ')
        .trim()
        .replace(/^.*?(?:FATAL|ERROR): +/, '') || message
    )
  }
}

function wrong(name: string, problem: string): HowdahError {
  return new HowdahError('configuration', `The setting ${name} ${problem}`, { field: `settings.${name}` })
}
