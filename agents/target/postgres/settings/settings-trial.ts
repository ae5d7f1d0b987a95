/**
 * Tries settings on this machine: PostgreSQL itself says which it takes.
 *
 * `postgres -C` reads the configuration as a start does, prints one setting and ends before it looks at a data directory
 * (PostgreSQL documentation, "postgres", options for semi-internal use). Only its exit status decides; what it says is
 * for people.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { HowdahError } from '../../../../messages/errors.ts'
import { runAs } from '../process/user-process.ts'
import type { SystemUser } from '../specification.ts'

const run = promisify(execFile)

const DEADLINE = 30_000
/** Characters of a complaint that a warning quotes. */
const QUOTED = 200

export interface Trial {
  /** Directory of the executables of the backup's major version. */
  readonly binaries: string
  readonly user: SystemUser
}

/**
 * @param args as for a start
 * @returns what PostgreSQL says against them; undefined: it takes them
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
    if (typeof code === 'number') return said(stderr) || message
    const program = `${binaries}/postgres`
    throw killed
      ? new HowdahError('timeout', `${program} did not read its settings within ${DEADLINE / 1000} s.`, {
          cause: error,
        })
      : new HowdahError('postgres_failed', `${program} could not be started: ${message}`, { cause: error })
  }
}

/** What is told of each setting comes before the line that ends it all, which says only that there was something. */
function said(stderr: string): string {
  // With "/" for a data directory it misses the file that ALTER SYSTEM writes.
  const lines = stderr
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.includes('"/postgresql.auto.conf"'))
  const told = lines.length > 1 ? lines.filter((line) => !/(?:FATAL|PANIC): {2}/.test(line)) : lines
  return told
    .map((line) => line.replace(/^.*?(?:LOG|WARNING|ERROR|FATAL|HINT|DETAIL): +/, '').trim())
    .join('; ')
    .slice(0, QUOTED)
}

export interface Refusal {
  readonly name: string
  readonly reason: string
}

/**
 * Which settings PostgreSQL does not take, each by itself whatever the others are.
 * @param taken what it says against some of them together; undefined: it takes these
 */
export async function findRefusals(
  names: readonly string[],
  taken: (names: readonly string[]) => Promise<string | undefined>,
): Promise<Refusal[]> {
  const [only, ...more] = names
  if (only === undefined) return []
  const reason = await taken(names)
  if (reason === undefined) return []
  if (more.length === 0) return [{ name: only, reason }]
  const middle = names.length >> 1
  return [
    ...(await findRefusals(names.slice(0, middle), taken)),
    ...(await findRefusals(names.slice(middle), taken)),
  ]
}
