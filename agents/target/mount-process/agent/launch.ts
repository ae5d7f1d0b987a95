/**
 * Starts the program of mount processes, which then waits for its mount spec on standard input.
 *
 * An agent keeps one spare program waiting, because loading it takes longer than mounting. A program whose agent ends
 * before it received a spec ends, too.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { programBeside } from '../../../../config/program-beside.ts'

export interface LaunchOptions {
  /** File for output outside the program's own log, such as a crash of Node. */
  readonly errors: string
  /** The program to run instead of main.ts. */
  readonly program?: string
}

/** Standard input takes the path of a mount spec; descriptor 3 reports when the mount is ready. */
export function launch({
  errors,
  program = programBeside(import.meta.url, '../program/main'),
}: LaunchOptions): ChildProcess {
  const log = openSync(errors, 'a', 0o600)
  try {
    return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program], {
      detached: true,
      cwd: '/',
      stdio: ['pipe', log, log, 'pipe'],
      env: { ...environment(), HOWDAH_READY_FD: '3' },
    })
  } finally {
    closeSync(log)
  }
}

/**
 * That of the agent, without the agent's configuration, which may have the password of its broker, and without what enlarges
 * its thread pool: it may wait for mounts, and a mount process does not.
 */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('HOWDAH_') && name !== 'UV_THREADPOOL_SIZE',
  )
  return Object.fromEntries(kept)
}

export interface SpareMountProgram {
  /** The spare program, or a new one when there is none. */
  take(): ChildProcess
  close(): void
}

/** The next spare is started this long after one was taken, so that it does not compete with the session being mounted. */
const REFILL_AFTER_MS = 5_000

export function keepSpare(options: LaunchOptions): SpareMountProgram {
  let spare: ChildProcess | undefined
  let timer: NodeJS.Timeout | undefined

  function refill(): void {
    const child = launch(options)
    spare = child
    child.unref()
    // A failure to start is reported when the program is needed.
    child.on('error', () => undefined)
    child.once('exit', () => {
      if (spare === child) spare = undefined
    })
  }

  refill()
  return {
    take() {
      const taken = spare ?? launch(options)
      spare = undefined
      clearTimeout(timer)
      timer = setTimeout(refill, REFILL_AFTER_MS).unref()
      return taken
    },
    close() {
      clearTimeout(timer)
      spare?.stdin?.end()
    },
  }
}
