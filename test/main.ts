/**
 * Owns a run of the tests: `npm test [-- MOCHA-ARGUMENTS]`.
 *
 * Three lanes, which are mocha's worker processes, take one test file after another; the output of a file appears when
 * the file has ended. Checks what the lanes have left on the machine once all have ended. Mocha is in a process group of
 * its own, so that only this process gets Ctrl-C: the running tests end and clean up.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, globSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { POSTGRES_MAJOR } from './support/installed-postgres.ts'
import { expectNothingLeft, takeInventory } from './support/leftovers.ts'
import { RUN_DIRECTORY, stopLanes } from './support/run-directory.ts'
import { describeFindings, findingsVariable, makeFindings, readFindings } from './support/secrets.ts'

const LANES = 3
/** As in bin/howdah; without it each process of the tests would compile the same files. */
const NODE_COMPILE_CACHE = join(import.meta.dirname, '../node_modules/.cache/howdah')
/** Rooms with files that take a minute, run first so that no lane ends with one of them alone. */
const LONG = ['repository', 'end-to-end', 'disruptions', 'durability', 'postgres', 'fleet', 'compose']
/** What takes programs of PostgreSQL 17 runs where that, or a newer one, is the machine's. */
const SINCE_17 = 'test/postgres-17/'
/** How long the tests may take to end after SIGTERM, which is often followed by SIGKILL. */
const STOP_MS = 20_000
/** npm passes on a Ctrl-C that the terminal has already sent to this process. */
const SAME_INTERRUPT_MS = 1_000

const given = process.argv.slice(2)
const directory = mkdtempSync(join(tmpdir(), 'howdah-test-run-'))
// Agents of other accounts write their findings below it.
chmodSync(directory, 0o711)
const secrets = join(directory, 'secrets')
makeFindings(secrets)
const before = takeInventory()
const mocha = spawn(
  process.execPath,
  [
    createRequire(import.meta.url).resolve('mocha/bin/mocha.js'),
    ...['--parallel', '--jobs', String(LANES)],
    ...given,
    ...(given.some(namesFiles) ? [] : allFiles()),
  ],
  {
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
    env: { NODE_COMPILE_CACHE, ...process.env, [RUN_DIRECTORY]: directory, ...findingsVariable(secrets) },
  },
)

/** Also a mistyped one: mocha reports that there is no such file. */
function namesFiles(argument: string): boolean {
  return existsSync(argument) || argument.endsWith('.ts')
}

function allFiles(): string[] {
  const files = globSync('test/**/*.test.ts')
    .filter((file) => Number(POSTGRES_MAJOR) >= 17 || !file.startsWith(SINCE_17))
    .sort()
  const isOf = (room: string) => (file: string) => file.startsWith(`test/${room}/`)
  return [...new Set([...LONG.flatMap((room) => files.filter(isOf(room))), ...files])]
}

function kill(): void {
  try {
    if (mocha.pid !== undefined) process.kill(-mocha.pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}

let interrupted: { readonly status: number; readonly at: number } | undefined

function interrupt(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP', status: number): void {
  if (interrupted === undefined) {
    interrupted = { status, at: Date.now() }
    stopLanes(directory)
    console.error('\nThe tests that run now end and clean up. Ctrl-C again kills them.')
  } else if (Date.now() - interrupted.at > SAME_INTERRUPT_MS) kill()
  if (signal !== 'SIGINT') setTimeout(kill, STOP_MS).unref()
}
process.on('SIGINT', () => interrupt('SIGINT', 130))
process.on('SIGTERM', () => interrupt('SIGTERM', 143))
process.on('SIGHUP', () => interrupt('SIGHUP', 129))

const [code, signal] = (await once(mocha, 'exit')) as [number | null, NodeJS.Signals | null]
process.exitCode = interrupted?.status ?? code ?? 1
if (signal !== null) console.error(`\nThe tests were ended by ${signal}.`)

const findings = readFindings(secrets)
if (findings.length > 0) {
  console.error(`\nThe processes of the tests gave away secrets:\n    ${describeFindings(findings)}`)
  process.exitCode ||= 1
}
try {
  await expectNothingLeft(before)
} catch (error) {
  console.error(`\n${error instanceof Error ? error.message : String(error)}`)
  process.exitCode ||= 1
} finally {
  rmSync(directory, { recursive: true, force: true })
}
