/** Owns running `howdah agent …` as an operator does: a process of its own, with a home directory and without a terminal. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { LAUNCHER } from '../support/fleet-roles.ts'

export interface Finished {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** @param home has `.ssh/` */
export function howdah(
  home: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Finished> {
  return new Promise((resolve) => {
    const options = {
      env: { PATH: process.env.PATH, TEST_RUN: process.env.TEST_RUN, HOME: home, ...env },
      cwd: '/',
    }
    execFile(LAUNCHER, args, options, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), stdout, stderr }),
    )
  })
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
