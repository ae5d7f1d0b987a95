/** Runs a program of the system to its end, with a deadline. */
import { execFile } from 'node:child_process'
import { HowdahError } from '../../../messages/errors.ts'

export interface ProgramResult {
  /** 127: the program does not exist. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

const DEADLINE_MS = 90_000

/** @throws HowdahError `timeout` */
export async function runProgram(program: string, args: readonly string[]): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: DEADLINE_MS,
      killSignal: 'SIGKILL',
      maxBuffer: 4 * 1024 ** 2,
      // Of root's programs, some are not on the PATH of a login without root's profile.
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin` },
    } as const
    execFile(program, [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve({ status: 0, stdout, stderr })
      else if (error.killed === true)
        reject(new HowdahError('timeout', `${program} did not end within ${DEADLINE_MS / 1000} s`))
      else if (error.code === 'ENOENT') resolve({ status: 127, stdout, stderr: `${program} does not exist` })
      else resolve({ status: typeof error.code === 'number' ? error.code : 1, stdout, stderr })
    })
  })
}
