/**
 * A private RabbitMQ node for `howdah up`, the demo and the tests, from the installed rabbitmq-server package.
 *
 * Everything of it (data, logs, configuration, cookie, credentials) is in one directory, and it listens on one port
 * only, of the loopback interface by default, and on another one for the management API where that is asked for: Erlang distribution is off, so there is no epmd, no distribution port
 * and no rabbitmqctl.
 * Tests administer it over its standard input. When that is closed, because the process that started the node died, the
 * node stops by itself. Touches neither the machine's own broker nor its configuration.
 */
import { access, mkdir, realpath } from 'node:fs/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../messages/errors.ts'
import {
  BROKER_USER,
  type BrokerTls,
  linkServerWithoutPlugins,
  readIdentity,
  SERVER_SCRIPT,
  writeBrokerFiles,
} from './broker-files.ts'
import { killGroup, startNode, stopNode, stopOrphan } from './broker-node.ts'
import { freePort } from './free-port.ts'

const LOOPBACK = '127.0.0.1'

export interface PrivateBrokerOptions {
  /** Created with mode 0700 if missing. The same directory keeps its queues, port and credentials. */
  readonly directory: string
  readonly logger: Logger
  /** The one address that it listens on. Default 127.0.0.1. */
  readonly address?: string
  /** Default: that of the last start, else a free one. */
  readonly port?: number
  /** Runs the plugin rabbitmq_management on another port: that of the last start, if it is free. Default: no. */
  readonly management?: boolean
  /** Listens for TLS, too, on another free port, and lets who has a certificate of that authority log in by it. PEM files. Default: no. */
  readonly tls?: Omit<BrokerTls, 'port'>
  /** Further lines of its rabbitmq.conf, for tests. */
  readonly settings?: readonly string[]
  /** How long the node may take to come up. Default 120 s. */
  readonly startTimeoutMs?: number
}

export interface PrivateBroker {
  /** Contains credentials: not for logs. The same after `restart` and after another start in the same directory. */
  readonly url: string
  /** Of the management API, with credentials; undefined without it. */
  readonly managementUrl: string | undefined
  /** `amqps://…` without a user; undefined without TLS. */
  readonly tlsUrl: string | undefined
  readonly pid: number
  /** Resolves when the node is gone, killed after 20 s if need be. Safe to repeat. */
  stop(): Promise<void>
  /** Stops the node, at once (`SIGKILL`) when `crash` is set, and starts it again on the same port. */
  restart(options?: { crash?: boolean }): Promise<void>
  /** Creates a virtual host for the same user, in some 20 ms; resolves to its URL. */
  createVirtualHost(name: string): Promise<string>
  deleteVirtualHost(name: string): Promise<void>
  /** Free disk space in bytes below which the node raises its disk alarm and accepts no messages. */
  setDiskFreeLimit(bytes: number): Promise<void>
  /** RabbitMQ raises its memory alarm above this fraction of the machine's memory, 0 to 1; its default is 0.4. */
  setMemoryHighWatermark(fraction: number): Promise<void>
}

/**
 * Starts the private node of a directory and waits until it accepts connections; an orphan of an earlier process is
 * stopped first.
 * @throws HowdahError `configuration` when RabbitMQ is not installed, `broker_unavailable` when it does not come up
 */
export async function startPrivateBroker(options: PrivateBrokerOptions): Promise<PrivateBroker> {
  const { logger, address = LOOPBACK, management = false, startTimeoutMs = 120_000 } = options
  await access(SERVER_SCRIPT).catch((cause: unknown) => {
    throw new HowdahError(
      'configuration',
      `RabbitMQ is not installed (${SERVER_SCRIPT} is missing): install the package rabbitmq-server, or name a broker with --broker`,
      { cause },
    )
  })
  await mkdir(options.directory, { recursive: true, mode: 0o700 })
  const directory = await realpath(options.directory)
  await stopOrphan(directory, logger)
  const managementPort = management
    ? await freePort(address, (await readIdentity(directory))?.managementPort)
    : undefined
  const tls = options.tls && { ...options.tls, port: await freePort(address) }
  const extras = { managementPort, tls, ...(options.settings && { settings: options.settings }) }
  const identity = await writeBrokerFiles(directory, address, options.port, extras, logger)
  const user = `${BROKER_USER}:${identity.password}`
  const url = `amqp://${user}@${address}:${identity.port}`

  const script = await linkServerWithoutPlugins(directory, extras)
  let node = await startNode(script, directory, startTimeoutMs, logger)
  /** Serializes stops and restarts. */
  let queue: Promise<void> = Promise.resolve()
  const next = (work: () => Promise<void>): Promise<void> => {
    const done = queue.then(work)
    queue = done.catch(() => {}) // the caller has the error
    return done
  }
  return {
    url,
    tlsUrl: tls && `amqps://${address}:${tls.port}`,
    managementUrl: management ? `http://${user}@${address}:${managementPort}` : undefined,
    get pid() {
      return node.pid
    },
    stop: () => next(() => stopNode(node, directory)),
    restart: ({ crash = false } = {}) =>
      next(async () => {
        if (crash) killGroup(node.pid, 'SIGKILL')
        await stopNode(node, directory)
        node = await startNode(script, directory, startTimeoutMs, logger)
      }),
    async createVirtualHost(name) {
      await node.command('vhost', name)
      return `${url}/${encodeURIComponent(name)}`
    },
    deleteVirtualHost: (name) => node.command('drop', name),
    setDiskFreeLimit: (bytes) => node.command('disk', String(bytes)),
    setMemoryHighWatermark: (fraction) => node.command('memory', fraction.toFixed(6)),
  }
}
