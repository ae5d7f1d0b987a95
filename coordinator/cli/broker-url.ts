/**
 * Which broker a client verb talks to. A flag beats the environment, and a named broker beats the state directory of
 * a running `howdah up`.
 */
import { existsSync } from 'node:fs'
import { isAlive } from '../../config/process-identity.ts'
import type { CommonConfig } from '../../config/schema.ts'
import { HowdahError } from '../../messages/errors.ts'
import { readUpFile, upFilePath } from './up-file.ts'
import { UsageError } from './usage-error.ts'

export interface BrokerFlags {
  readonly broker?: string | undefined
  readonly config?: string | undefined
  readonly state?: string | undefined
}

export interface BrokerSources {
  readonly flags: BrokerFlags
  readonly env: NodeJS.ProcessEnv
  /** Loads the broker of a configuration file, or of a URL that overrides it; its TLS files also from the environment. */
  readonly load: (file: string | undefined, brokerUrl: string | undefined) => CommonConfig['broker']
  /** Where `howdah up` keeps its state by default. */
  readonly defaultState: string
  /** Configuration files of the command line, the user's own first; those that do not exist are passed over. */
  readonly defaultFiles: readonly string[]
}

/**
 * @throws UsageError that lists the ways to name a broker
 * @throws HowdahError `broker_unavailable` when no `up` runs with the given state directory
 */
export function findBroker(sources: BrokerSources): CommonConfig['broker'] {
  const { flags, env, load, defaultState, defaultFiles } = sources
  const given = (url: string) => load(flags.config ?? env.HOWDAH_CONFIG, url)
  if (flags.broker !== undefined) return given(flags.broker)
  if (flags.state !== undefined) return given(brokerOfUp(flags.state))
  if (flags.config !== undefined) return load(flags.config, undefined)
  if (env.HOWDAH_BROKER_URL) return given(env.HOWDAH_BROKER_URL)
  if (env.HOWDAH_CONFIG) return load(env.HOWDAH_CONFIG, undefined)
  if (env.HOWDAH_STATE) return given(brokerOfUp(env.HOWDAH_STATE))
  const running = readUpFile(defaultState)
  if (running !== undefined && isAlive(running)) return given(running.broker)
  const file = defaultFiles.find((one) => existsSync(one))
  if (file !== undefined) return load(file, undefined)
  throw new UsageError(
    `no broker is named, and no "howdah up" runs with the state directory ${defaultState}`,
    undefined,
    [
      '--broker URL or HOWDAH_BROKER_URL names one, like amqp://user:password@host:5672/vhost',
      `--config FILE or HOWDAH_CONFIG names a configuration file that has broker.urls; ${defaultFiles.join(' and ')} are looked for`,
      '--state DIR or HOWDAH_STATE names the state directory of a running "howdah up"',
    ],
  )
}

function brokerOfUp(state: string): string {
  const up = readUpFile(state)
  if (up === undefined) {
    throw new HowdahError(
      'broker_unavailable',
      `no "howdah up" runs with the state directory ${state}: ${upFilePath(state)} does not exist`,
    )
  }
  if (!isAlive(up)) {
    throw new HowdahError(
      'broker_unavailable',
      `the "howdah up" with the state directory ${state} (process ${up.pid}) is gone; start it again with ` +
        `"howdah up --state ${state}"`,
    )
  }
  return up.broker
}
