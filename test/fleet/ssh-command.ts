/** Owns running `howdah agent …` as an operator does: a process of its own, with a home directory and without a terminal. */
import { execFile } from 'node:child_process'
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
