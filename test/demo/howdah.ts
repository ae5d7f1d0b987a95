/**
 * Howdah as a person uses it: `bin/howdah up` as a long-running child, and client verbs one after the other.
 *
 * The children have process groups of their own, so that a Ctrl-C reaches the demo only, which then ends them in order.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

const CHECKOUT = join(import.meta.dirname, '../../bin/howdah')
const READY_MS = 90_000
const VERB_MS = 300_000
const STOP_MS = 60_000

export interface Howdah {
  /** Starts `howdah up` and waits until it is ready. @throws Error if it is not in time */
  up(): Promise<void>
  /** Runs a verb and returns its stdout. @throws Error with the verb's stderr */
  run(...args: string[]): Promise<string>
  /** Runs a verb with `--json`; the caller names the type of the document. */
  json<T>(...args: string[]): Promise<T>
  /** Ends `up` by SIGTERM, and by SIGKILL after a deadline. Safe to repeat. */
  stop(): Promise<void>
  /** The same Howdah with another signal that aborts its verbs. */
  withSignal(signal: AbortSignal): Howdah
  /** What `up` logged. */
  readonly logFile: string
}

export interface HowdahOptions {
  /** Default: bin/howdah of the checkout. */
  readonly program?: string
  readonly state: string
  /** `NAME=FORMAT:PATH`, as `up` takes it. */
  readonly repository: string
  readonly logFile: string
  readonly env: NodeJS.ProcessEnv
  /** Aborts a running verb. */
  readonly signal: AbortSignal
}

export function createHowdah(options: HowdahOptions): Howdah {
  return createClient(options, { process: undefined })
}

function createClient(options: HowdahOptions, up: { process: ChildProcess | undefined }): Howdah {
  const { program = CHECKOUT, state, logFile, env, signal } = options

  async function run(...args: string[]): Promise<string> {
    const child = spawn(program, [...args, '--state', state], {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: AbortSignal.any([signal, AbortSignal.timeout(VERB_MS)]),
    })
    const [out, errors, code] = await Promise.all([text(child.stdout), text(child.stderr), exitOf(child)])
    if (code === 0) return out
    throw new Error(`howdah ${args.join(' ')} ended with ${code}\n${errors.trim() || out.trim()}`)
  }

  return {
    logFile,
    run,
    withSignal: (other) => createClient({ ...options, signal: other }, up),

    async json<T>(...args: string[]) {
      return JSON.parse(await run(...args, '--json')) as T
    },

    async up() {
      const child = spawn(program, ['up', '--repository', options.repository, '--state', state, '--json'], {
        env,
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      up.process = child
      child.stderr.pipe(createWriteStream(logFile))
      const lines = createInterface({ input: child.stdout })
      const ready = new Promise<void>((resolve, reject) => {
        lines.on('line', (line) => {
          if (line.includes('"ready"')) resolve()
        })
        exitOf(child).then(
          (code) => reject(new Error(`howdah up ended with ${code} before it was ready`)),
          reject,
        )
      })
      const deadline = sleep(READY_MS, undefined, { ref: false, signal }).then(() => {
        throw new Error(`howdah up was not ready within ${READY_MS / 1000} s`)
      })
      await Promise.race([ready, deadline])
    },

    async stop() {
      const child = up.process
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(late)
      if (child.exitCode !== 0) {
        throw new Error(`howdah up ended with ${child.exitCode ?? child.signalCode} on SIGTERM`)
      }
    },
  }
}

/** Exit code, or the signal's name. */
async function exitOf(child: ChildProcess): Promise<number | string> {
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  return code ?? signal ?? 'no status'
}
