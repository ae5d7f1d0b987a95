/** The main of the command line: signals, outputs, the connection to the broker, and the exit status. */
import { once } from 'node:events'
import { version } from '../../config/version.ts'
import { type BrokerFlags, type BrokerSources, findBroker } from './broker-url.ts'
import { runCommandLine } from './command-line.ts'
import type { Context } from './context.ts'
import { exitStatusOf, Interruption, type StopSignal } from './interruption.ts'
import { defaultClientFiles, defaultStateDirectory } from './options.ts'
import { allPages } from './pages.ts'
import { askSecret, askYesOrNo } from './question.ts'
import { createTerminal } from './terminal.ts'
import { UsageError } from './usage-error.ts'

const interruption = new AbortController()
const forcing = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)

// A reader or a terminal that disappears (`howdah watch | head`) ends the program in an orderly way.
for (const output of [process.stdout, process.stderr])
  output.on('error', () => interruption.abort(new Interruption('SIGPIPE')))

const context: Context = {
  stdout: createTerminal(process.stdout, process.env),
  stderr: createTerminal(process.stderr, process.env),
  env: process.env,
  now: () => new Date(),
  pages: allPages,
  interrupted: interruption.signal,
  forceStop: forcing.signal,
  question:
    process.stdin.isTTY && process.stderr.isTTY
      ? (text) =>
          askYesOrNo(text, { input: process.stdin, output: process.stderr, signal: interruption.signal })
      : undefined,
  secret:
    process.stdin.isTTY && process.stderr.isTTY
      ? (text) =>
          askSecret(text, { input: process.stdin, output: process.stderr, signal: interruption.signal }, () =>
            onSignal('SIGINT'),
          )
      : undefined,
  loadBroker: async (file, url) => (await brokerLoader())(file, url),
  connect: async (flags) => {
    const { broker, logger, withoutCredentials, connectTo } = await prepareConnection(flags)
    const bus = await connectTo(broker, 'howdah-client', logger)
    return { bus, urls: withoutCredentials(broker.urls).split(','), [Symbol.asyncDispose]: () => bus.close() }
  },
  connectOperator: async (flags) => {
    const { broker, logger, connectOperatorTo } = await prepareConnection(flags)
    return connectOperatorTo(broker, logger)
  },
}

const status = await runCommandLine(context, process.argv.slice(2), version())
// A pipe takes 64 KiB at once, and the rest as its reader proceeds.
await Promise.race([
  Promise.all([process.stdout, process.stderr].map(written)),
  once(forcing.signal, 'abort'),
])
process.exit(status)

/** The broker that the flags name, and what is loaded on demand to connect to it. */
async function prepareConnection(flags: BrokerFlags) {
  const broker = findBroker({
    flags,
    env: process.env,
    load: await brokerLoader(),
    defaultState: defaultStateDirectory(process.env, process.getuid?.() ?? 0),
    defaultFiles: defaultClientFiles(process.env),
  })
  const { createLogger, withoutCredentials } = await import('../../config/logger.ts')
  const logger = createLogger('client', process.env.HOWDAH_LOG_LEVEL ?? 'silent')
  return { broker, logger, withoutCredentials, ...(await import('./connect.ts')) }
}

/** Loaded on demand, so that help and usage errors are fast. */
async function brokerLoader(): Promise<BrokerSources['load']> {
  const [{ ConfigurationError }, { loadConfig }, { clientSchema }] = await Promise.all([
    import('../../config/configuration-error.ts'),
    import('../../config/load.ts'),
    import('../../config/schema.ts'),
  ])
  // Whether the environment names the broker is decided by whoever calls it with the URL.
  const { HOWDAH_BROKER_URL: _, ...env } = process.env
  return (file, url) => {
    try {
      return loadConfig(clientSchema, { file, env, args: url === undefined ? [] : ['--broker', url] }).broker
    } catch (error) {
      throw error instanceof ConfigurationError
        ? new UsageError(error.message, undefined, [], 'configuration')
        : error
    }
  }
}

/** Resolves when everything was written, or cannot be because the reader is gone. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()))
}

/** The first signal ends the program in order, the second without waiting, the third at once. */
function onSignal(signal: StopSignal): void {
  if (forcing.signal.aborted) process.exit(exitStatusOf(signal))
  if (interruption.signal.aborted) forcing.abort()
  else interruption.abort(new Interruption(signal))
}
