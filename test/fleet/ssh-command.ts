/** Owns running `howdah agent …` as an operator does: a process of its own, with a home directory and without a terminal. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { LAUNCHER } from '../support/fleet-roles.ts'

export interface Finished {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * @param home has `.ssh/`
 * @param onLine called with each line that appears on standard error
 */
export async function howdah(
  home: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  onLine: (line: string) => void = () => undefined,
): Promise<Finished> {
  const child = spawn(LAUNCHER, args, {
    env: { PATH: process.env.PATH, TEST_RUN: process.env.TEST_RUN, HOME: home, ...env },
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const said = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    said.stdout += part
  })
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.stderr += `${line}\n`
    onLine(line)
  })
  const [status] = (await once(child, 'close')) as [number | null]
  return { status: status ?? -1, ...said }
}

/**
 * The same on a terminal, where each question is answered as soon as it appears: a part of the question → what is typed.
 * @returns everything that the terminal showed
 */
export async function howdahOnTerminal(
  home: string,
  args: readonly string[],
  answers: readonly (readonly [question: string, typed: string])[],
): Promise<{ readonly status: number; readonly shown: string }> {
  const command = [LAUNCHER, ...args].map((word) => `'${word}'`).join(' ')
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: {
      PATH: process.env.PATH,
      TEST_RUN: process.env.TEST_RUN,
      HOME: home,
      TERM: 'dumb',
      LANG: 'C.UTF-8',
    },
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const left = [...answers]
  let shown = ''
  let answered = 0
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    shown += part
    const [next] = left
    if (next === undefined || !shown.slice(answered).includes(next[0])) return
    answered = shown.length
    left.shift()
    child.stdin.write(next[1])
  })
  const [status] = (await once(child, 'close')) as [number]
  return { status, shown }
}
