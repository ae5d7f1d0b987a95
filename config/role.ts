/**
 * What the three roles' processes have in common: flags, `--help`, configuration, log, signals and exit status. A role
 * hands in its schema and how to start it.
 */
import { parseArgs } from 'node:util'
import type { Schema } from 'convict'
import type { Logger } from 'pino'
import { type ErrorBody, errorBody, failureDocument } from '../messages/errors.ts'
import { ConfigurationError } from './configuration-error.ts'
import { type ConfigKey, describeKeys } from './describe.ts'
import { loadConfig } from './load.ts'
import { createLogger } from './logger.ts'
import { type MonitoringEndpoint, openMonitoringEndpoint } from './monitoring/endpoint.ts'
import { createMonitor, type Monitor, type RoleMonitor } from './monitoring/monitor.ts'
import { describeProcess } from './monitoring/process-metrics.ts'
import { roleHelp } from './role-help.ts'

export interface RoleOptions<Config> {
  /** The verb: `mount-agent`. */
  readonly role: string
  readonly summary: string
  readonly schema: Schema<Config>
  /** Starts the role; resolves when it consumes. */
  readonly start: (config: Config, logger: Logger, monitor: Monitor) => Promise<RunningRole>
}

export interface RunningRole {
  /** What `--json` prints once the role is ready. */
  readonly ready: object
  /** Shuts down in order. */
  close(): Promise<void>
}

/** How long a role waits for a broker or a store that is not running yet, as at boot; then it exits, and its supervisor decides. */
export const START_WAIT_MS = 300_000

/** Deadline of an orderly shutdown in milliseconds. */
const CLOSE_DEADLINE_MS = 20_000

/** Runs a role until SIGINT or SIGTERM. Exit status 0 stopped, 1 failed, 2 wrong usage or configuration. */
export async function runRole<Config extends { log: { level: string }; metrics: { listen: string | null } }>(
  options: RoleOptions<Config>,
): Promise<void> {
  const keys = describeKeys(options.schema)
  const { file, json, help, isCheck, args } = readFlags(options.role, keys, process.argv.slice(2))
  if (help) {
    process.stdout.write(roleHelp(options.role, options.summary, keys))
    return
  }
  let logger: Logger | undefined
  try {
    const config = loadConfig(options.schema, { file, env: process.env, args })
    if (isCheck) return
    logger = createLogger(options.role, config.log.level, { agent: agentOf(options.role, config) })
    const stop = stopSignal()
    const monitor = createMonitor()
    // Answers while the role still waits for its broker, too.
    const endpoint = await openEndpoint(options.role, config.metrics.listen, monitor, logger)
    // Stopped while still waiting for its broker: there is nothing to close yet.
    const role = await Promise.race([options.start(config, logger, monitor), stop.then(() => undefined)])
    if (role === undefined) process.exit(0)
    monitor.readiness.started()
    const ready = { ...role.ready, ...(endpoint && { metrics: endpoint.address }) }
    if (json) process.stdout.write(`${JSON.stringify({ ready: true, ...ready })}\n`)
    const { role: _role, ...shown } = ready as { role?: string }
    logger.info(shown, `${options.role} is ready`)
    logger.info(`${await stop}: stopping`)
    monitor.readiness.stopping()
    setTimeout(() => {
      logger?.error(`not stopped after ${CLOSE_DEADLINE_MS / 1000} s; exiting anyway`)
      process.exit(1)
    }, CLOSE_DEADLINE_MS).unref()
    await role.close()
    await endpoint?.close()
    process.exit(0)
  } catch (error) {
    if (error instanceof ConfigurationError) fail(2, { code: 'configuration', message: error.message })
    const body = errorBody(error)
    // Of the broker or the store, for example.
    if (body.code === 'configuration') fail(2, body, options.role)
    if (logger) logger.fatal({ err: error }, `${options.role} failed`)
    fail(1, body, options.role)
  }
}

/** The address of an agent, as in RabbitMQ: `target.db-7`. Undefined: the role is no agent. */
function agentOf(role: string, config: object): string | undefined {
  const { name } = config as { name?: string }
  return name === undefined ? undefined : `${role.replace('-agent', '')}.${name}`
}

/** Undefined: it is off. @throws ConfigurationError when the address cannot be listened on */
async function openEndpoint(
  role: string,
  listen: string | null,
  monitor: RoleMonitor,
  logger: Logger,
): Promise<MonitoringEndpoint | undefined> {
  if (listen === null) return undefined
  describeProcess(monitor.registry, role)
  return openMonitoringEndpoint({ listen, monitor, logger })
}

function readFlags(role: string, keys: readonly ConfigKey[], argv: string[]) {
  const flags = Object.fromEntries(
    keys.flatMap(({ flag }) => (flag === undefined ? [] : [[flag, { type: 'string' as const }]])),
  )
  try {
    const { values } = parseArgs({
      args: argv,
      options: {
        ...flags,
        config: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
        'check-configuration': { type: 'boolean' },
      },
    })
    const {
      config,
      json = false,
      help = false,
      'check-configuration': isCheck = false,
      ...settings
    } = values as Record<string, string | boolean>
    return {
      file: (config as string | undefined) ?? process.env.HOWDAH_CONFIG,
      json: json === true,
      help: help === true,
      isCheck: isCheck === true,
      args: Object.entries(settings).flatMap(([flag, value]) => [`--${flag}`, String(value)]),
    }
  } catch (error) {
    return fail(2, { code: 'usage', message: `${(error as Error).message}\nSee "howdah ${role} --help".` })
  }
}

function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve(signal))
  })
}

/** As the other verbs do: with --json the error is on stdout, too. `role`: is named before the message on stderr. */
function fail(status: number, error: ErrorBody, role?: string): never {
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify(failureDocument(error))}\n`)
  process.stderr.write(`${role === undefined ? '' : `howdah ${role}: `}${error.message}\n`)
  process.exit(status)
}
