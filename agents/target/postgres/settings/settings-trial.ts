/**
 * Validates settings on this machine with PostgreSQL itself.
 *
 * `postgres -C` reads the configuration as at a start, prints one setting and exits before it opens a data directory
 * (PostgreSQL documentation, "postgres", options for semi-internal use). Only its exit status decides; its messages are
 * quoted in warnings.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { HowdahError } from '../../../../messages/errors.ts'
import { runAs } from '../process/user-process.ts'
import type { SystemUser } from '../specification.ts'

const run = promisify(execFile)

const DEADLINE = 30_000
/** Characters of a message that a warning quotes. */
const QUOTED = 200

export interface Trial {
  /** Directory of the executables of the backup's major version. */
  readonly binaries: string
  readonly user: SystemUser
}

/**
 * @param args as for a start
 * @returns PostgreSQL's error message; undefined: it accepts the settings
 * @throws HowdahError `postgres_failed` when the program cannot be run, `timeout` when it does not end in 30 s
 */
export async function settingsProblem(
  args: readonly string[],
  { binaries, user }: Trial,
): Promise<string | undefined> {
  const options = {
    ...runAs(user),
    ...{ cwd: '/', env: { LC_ALL: 'C' }, timeout: DEADLINE, killSignal: 'SIGKILL' as const },
  }
  try {
    await run(`${binaries}/postgres`, [...args, '-C', 'port'], options)
    return undefined
  } catch (error) {
    const failure = error as { code?: unknown; killed?: boolean; stderr?: string; message: string }
    const { code, killed, stderr = '', message } = failure
    if (typeof code === 'number') return errorMessage(stderr) || message
    const program = `${binaries}/postgres`
    throw killed
      ? new HowdahError('timeout', `${program} did not read its settings within ${DEADLINE / 1000} s.`, {
          cause: error,
        })
      : new HowdahError('postgres_failed', `${program} could not be started: ${message}`, { cause: error })
  }
}

/** Messages about single settings come before the final FATAL, which only says that there are errors. */
function errorMessage(stderr: string): string {
  // With "/" as data directory PostgreSQL reports that the file of ALTER SYSTEM is missing.
  const lines = stderr
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.includes('"/postgresql.auto.conf"'))
  const messages = lines.length > 1 ? lines.filter((line) => !/(?:FATAL|PANIC): {2}/.test(line)) : lines
  return messages
    .map((line) => line.replace(/^.*?(?:LOG|WARNING|ERROR|FATAL|HINT|DETAIL): +/, '').trim())
    .join('; ')
    .slice(0, QUOTED)
}

export interface Refusal {
  readonly name: string
  readonly reason: string
}

/**
 * Finds the settings that PostgreSQL rejects, by bisection.
 * @param problemOf the error message for some of the settings together; undefined: they are accepted
 */
export async function findRefusals(
  names: readonly string[],
  problemOf: (names: readonly string[]) => Promise<string | undefined>,
): Promise<Refusal[]> {
  const [only, ...more] = names
  if (only === undefined) return []
  const reason = await problemOf(names)
  if (reason === undefined) return []
  if (more.length === 0) return [{ name: only, reason }]
  const middle = names.length >> 1
  return [
    ...(await findRefusals(names.slice(0, middle), problemOf)),
    ...(await findRefusals(names.slice(middle), problemOf)),
  ]
}
