/**
 * Validates settings on this machine with PostgreSQL itself.
 *
 * `postgres -C` reads the configuration as at a start, prints one setting and exits before it opens a data directory
 * (PostgreSQL documentation, "postgres", options for semi-internal use). Only its exit status decides; its messages are
 * quoted in warnings.
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { HowdahError } from '../../../../messages/errors.ts'
import { runAs } from '../process/user-process.ts'
import type { SystemUser } from '../specification.ts'
import type { Settings } from './backup-configuration.ts'
import { settingLines } from './configuration-file.ts'

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
  return runTrial([...args, '-C', 'port'], { binaries, user }, undefined)
}

/** The file descriptor of the settings in the program that reads them. */
const SETTINGS_FD = 3

/**
 * As `settingsProblem`, for settings alone, without those of an instance. PostgreSQL reads them from a file that has no
 * name any more, since everybody can read a command line.
 */
export async function problemOfSettings(settings: Settings, trial: Trial): Promise<string | undefined> {
  const file = await namelessFile(settingLines(settings), trial.user)
  try {
    const args = ['-D', '/', '-c', `config_file=/proc/self/fd/${SETTINGS_FD}`, '-C', 'port']
    return await runTrial(args, trial, file.fd)
  } finally {
    await file.close()
  }
}

/** A file that only `user` can read, and that is gone with its last descriptor. */
async function namelessFile(content: string, user: SystemUser): Promise<FileHandle> {
  const path = join(tmpdir(), `howdah-${randomUUID()}`)
  const file = await open(path, 'wx', 0o600)
  try {
    await rm(path)
    await file.chown(user.uid, user.gid)
    await file.writeFile(content)
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

async function runTrial(
  args: readonly string[],
  { binaries, user }: Trial,
  settingsFd: number | undefined,
): Promise<string | undefined> {
  const program = `${binaries}/postgres`
  const child = spawn(program, args, {
    ...runAs(user),
    ...{ cwd: '/', env: { LC_ALL: 'C' }, timeout: DEADLINE, killSignal: 'SIGKILL' },
    stdio: ['ignore', 'ignore', 'pipe', ...(settingsFd === undefined ? [] : [settingsFd])],
  })
  const messages = child.stderr === null ? '' : text(child.stderr)
  try {
    const [status] = (await once(child, 'close')) as [number | null]
    if (status === 0) return undefined
    if (status !== null) return errorMessage(await messages) || `postgres ended with status ${status}`
  } catch (cause) {
    const { message } = cause as Error
    throw new HowdahError('postgres_failed', `${program} could not be started: ${message}`, { cause })
  }
  throw new HowdahError('timeout', `${program} did not read its settings within ${DEADLINE / 1000} s.`)
}

/** Where PostgreSQL found what it rejects in `problemOfSettings`. */
const OF_TRIAL = new RegExp(` in file "/proc/self/fd/${SETTINGS_FD}" line \\d+`)

/** Messages about single settings come before the final FATAL, which only says that there are errors. */
function errorMessage(stderr: string): string {
  // With "/" as data directory PostgreSQL reports that the file of ALTER SYSTEM is missing.
  const lines = stderr
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.includes('"/postgresql.auto.conf"'))
  const messages = lines.length > 1 ? lines.filter((line) => !/(?:FATAL|PANIC): {2}/.test(line)) : lines
  return messages
    .map((line) =>
      line
        .replace(/^.*?(?:LOG|WARNING|ERROR|FATAL|HINT|DETAIL): +/, '')
        .replace(OF_TRIAL, '')
        .trim(),
    )
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
