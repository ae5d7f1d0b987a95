/**
 * Owns that no secret leaves a process of Howdah by its log, its output or the programs that it starts: the processes that
 * tests start are watched (secret-watch.cjs), and test/main.ts fails the run for what was found.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** Every password and passphrase that a test gives to a process of Howdah contains it. */
export const PLANTED = 'correct-horse-battery'

/** The directory of the findings, for processes that tests start. Not `HOWDAH_…`, which would be configuration. */
const FINDINGS = 'TEST_SECRETS'
const WATCH = path.join(import.meta.dirname, 'secret-watch.cjs')

export interface SecretFinding {
  readonly kind: string
  readonly where: string
  /** With its arguments. */
  readonly program: string
  readonly excerpt: string
  /** The places in our sources that led to it. */
  readonly at: readonly string[]
}

/** Makes the directory for findings, to which the accounts that agents run as can write. */
export function makeFindings(directory: string): void {
  mkdirSync(directory)
  chmodSync(directory, 0o1777)
}

/** The environment of a watched process. `directory`: as made by `makeFindings`; default: that of the run, if there is one. */
export function watchedEnvironment(
  env: NodeJS.ProcessEnv,
  directory: string | undefined = process.env[FINDINGS],
): NodeJS.ProcessEnv {
  if (directory === undefined) return env
  const options = [env.NODE_OPTIONS, `--require=${WATCH}`].filter((one) => one !== undefined)
  return { ...env, [FINDINGS]: directory, NODE_OPTIONS: options.join(' ') }
}

/** For the environment of the lanes of a run. */
export function findingsVariable(directory: string): Record<string, string> {
  return { [FINDINGS]: directory }
}

export function readFindings(directory: string): SecretFinding[] {
  return readdirSync(directory)
    .sort()
    .flatMap((name) => readFileSync(path.join(directory, name), 'utf8').trimEnd().split('\n'))
    .map((line) => JSON.parse(line) as SecretFinding)
}

/** For people: each kind of finding once. */
export function describeFindings(findings: readonly SecretFinding[]): string {
  const texts = findings.map(
    ({ kind, where, program, excerpt, at }) =>
      `${kind} in ${where} of ${program}\n      …${excerpt.trim()}…\n${at.map((line) => `      ${line.trim()}`).join('\n')}`,
  )
  return [...new Set(texts)].join('\n    ')
}
