/** Runs a command line in this process against a fake bus, and records its output. */
import { loadConfig } from '../../config/load.ts'
import { clientSchema } from '../../config/schema.ts'
import { runCommandLine } from '../../coordinator/cli/command-line.ts'
import type { Context } from '../../coordinator/cli/context.ts'
import { Interruption, type StopSignal } from '../../coordinator/cli/interruption.ts'
import { allPages } from '../../coordinator/cli/pages.ts'
import { createTerminal } from '../../coordinator/cli/terminal.ts'
import { UsageError } from '../../coordinator/cli/usage-error.ts'
import type { Bus } from '../../messages/bus.ts'
import type { OperatorConnection } from '../../messages/operator-connection.ts'

export interface Run {
  readonly stdout: () => string
  readonly stderr: () => string
  readonly status: Promise<number>
  /** Default: SIGINT, as Ctrl-C sends it. */
  interrupt(signal?: StopSignal): void
}

export interface RunOptions {
  readonly bus?: Bus
  readonly operator?: Omit<OperatorConnection, typeof Symbol.asyncDispose>
  readonly tty?: boolean
  readonly columns?: number
  readonly env?: NodeJS.ProcessEnv
  readonly now?: () => Date
  /** What is answered to questions on the terminal, in turn; missing: there is no terminal. */
  readonly answers?: boolean[]
}

export const NOW = new Date('2025-11-22T06:33:10Z')

/** No state directory can be made there: an `up` whose flags are accepted by mistake fails instead of running here. */
const ENVIRONMENT = { LANG: 'C.UTF-8', HOWDAH_STATE: '/dev/null/howdah' }

export function run(args: readonly string[], options: RunOptions = {}): Run {
  const { bus, operator, tty = false, columns = 80, env = ENVIRONMENT, now = () => NOW, answers } = options
  const interruption = new AbortController()
  const written = { stdout: '', stderr: '' }
  const terminal = (name: 'stdout' | 'stderr') =>
    createTerminal(
      {
        write: (text) => {
          written[name] += text
        },
        isTTY: tty,
        columns,
      },
      env,
    )
  const context: Context = {
    stdout: terminal('stdout'),
    stderr: terminal('stderr'),
    env,
    now,
    pages: allPages,
    interrupted: interruption.signal,
    forceStop: new AbortController().signal,
    question: answers && (async () => answers.shift() === true),
    secret: undefined,
    loadBroker: async (file, url) => {
      try {
        return loadConfig(clientSchema, { file, env: {}, args: url === undefined ? [] : ['--broker', url] })
          .broker
      } catch (error) {
        throw new UsageError((error as Error).message, undefined, [], 'configuration')
      }
    },
    connectOperator: async () => {
      if (operator === undefined) throw new Error('no operator is prepared')
      return { ...operator, [Symbol.asyncDispose]: async () => {} }
    },
    connect: async () => {
      if (bus === undefined) throw new Error('no bus is prepared')
      return { bus, urls: ['amqps://broker.example:5671/howdah'], [Symbol.asyncDispose]: () => bus.close() }
    },
  }
  return {
    stdout: () => written.stdout,
    stderr: () => written.stderr,
    status: runCommandLine(context, args, '1.2.3'),
    interrupt: (signal = 'SIGINT') => interruption.abort(new Interruption(signal)),
  }
}

/** Waits until a condition holds; fails after ten seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not so after 10 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
