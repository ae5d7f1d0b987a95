/**
 * The connection to RabbitMQ, to one node of its cluster at a time. Opened within a deadline; from then on amqplib
 * reconnects with backoff until it is closed, to the next node where there are several.
 * Owns the TCP connection and the state of the broker's alarm. Publishes nothing.
 */
import type { EventEmitter } from 'node:events'
import type { SecureContext } from 'node:tls'
import { type ChannelModel, connect, credentials } from 'amqplib'
import type { Logger } from 'pino'
import { type BrokerUrl, brokerAddresses, brokerUser, logsInByCertificate } from './broker-address.ts'
import { type BrokerAlarm, createBrokerAlarm } from './broker-alarm.ts'
import { createBrokerNodes } from './broker-nodes.ts'
import { ANSWER_MS, type Channels, dropConnection, openChannel } from './channels.ts'
import { type ConsoleName, clientProperties, connectionName } from './console-name.ts'
import { HowdahError } from './errors.ts'
import { createOutageLog, type OutageLog } from './outage-log.ts'
import { atMost } from './wait.ts'

/** How long RabbitMQ may take to confirm the end of the connection. A blocked or hanging broker never does. */
const CLOSE_MS = 2_000
/** How long a node may say nothing while a connection to it is opened: one of several, and the only one. */
const OPEN_MS = { several: 4_000, single: 10_000 }

export interface BusTls {
  /** The authority that signed the broker's certificate, and our own certificate where there is one. */
  readonly secureContext: SecureContext
  /** Whom our own certificate names: who we are for the broker, where the URL names no user (SASL EXTERNAL). */
  readonly user?: string
}

export interface ConnectionOptions {
  /** `amqp://user:password@host:port/vhost` or `amqps://…`; without a user the certificate says who we are. */
  readonly url: BrokerUrl
  /** The process in the RabbitMQ console, and what the connection is for. */
  readonly shownAs: ConsoleName
  readonly purpose: string
  readonly logger: Logger
  readonly tls?: BusTls | undefined
  /** Deadline of the first connection. */
  readonly waitMs: number
  /** Called whenever it is connected, and whenever that was lost. */
  readonly onChange?: (connected: boolean) => void
  /** Deadline of each answer of RabbitMQ. */
  readonly answerMs?: number | undefined
  /** Of who opens one connection after the other until it has one. Default: `connectionOutage`. */
  readonly outage?: OutageLog
}

export const connectionOutage = (logger: Logger): OutageLog =>
  createOutageLog({ logger, failing: 'cannot connect to RabbitMQ', again: 'connected to RabbitMQ again' })

export interface BrokerConnection extends Channels {
  /** Emits `disconnect`, and `blocked` and `unblocked` after `alarm` has changed. */
  readonly events: EventEmitter
  readonly alarm: BrokerAlarm
  /** Since when it is connected and RabbitMQ takes messages, in ms since the epoch; undefined while that is not so. */
  readonly openSince: number | undefined
  /** Resolves at the latest after two seconds. */
  close(): Promise<void>
}

/**
 * @throws HowdahError `broker_unavailable` when the deadline passes, `configuration` as soon as RabbitMQ refuses the user,
 * the password or the virtual host
 */
export async function openConnection(options: ConnectionOptions): Promise<BrokerConnection> {
  const { url, shownAs, purpose, tls, logger, waitMs, answerMs = ANSWER_MS, onChange } = options
  const { outage = connectionOutage(logger) } = options
  const addresses = brokerAddresses(url)
  const nodes = createBrokerNodes(addresses, brokerUser(url, tls?.user))
  const model = await connect(nodes.target, {
    ...(tls && { secureContext: tls.secureContext }),
    ...(logsInByCertificate(addresses[0], tls?.user) && { credentials: credentials.external() }),
    timeout: addresses.length > 1 ? OPEN_MS.several : OPEN_MS.single,
    noDelay: true,
    clientProperties: { ...clientProperties(shownAs), connection_name: connectionName(shownAs, purpose) },
    recovery: { calculateDelay: nodes.delayMs, waitForConnect: false },
  })
  const alarm = createBrokerAlarm()
  const { promise: refused, reject: refuse } = Promise.withResolvers<never>()
  refused.catch(() => {})
  let connectedAt: number | undefined
  let current: ChannelModel | undefined
  let connected = Promise.withResolvers<ChannelModel>()
  model.on('connect', (connection) => {
    connectedAt = Date.now()
    current = connection
    connected.resolve(connection)
    onChange?.(true)
    nodes.reached()
    logger.debug({ purpose, node: nodes.current }, 'connected to RabbitMQ')
    outage.works({ purpose, node: nodes.current })
  })
  model.on('disconnect', (error) => {
    connectedAt = undefined
    // amqplib only ends it: to a node that is cut off or hangs it would stay open until the kernel gives up.
    if (current) dropConnection(current)
    current = undefined
    connected = Promise.withResolvers()
    alarm.clear(false)
    onChange?.(false)
    logger.warn(
      { purpose, node: nodes.current, reason: error?.message },
      'lost the connection to RabbitMQ, reconnecting',
    )
    outage.began()
    nodes.lost()
  })
  model.on('error', (error) => {
    logger.debug({ err: error }, 'RabbitMQ connection error')
  })
  model.on('connect-failed', (error) => {
    const failure = nodes.failed(error)
    outage.failed(failure, { purpose })
    if (failure.code === 'configuration') refuse(failure)
  })
  model.on('blocked', (reason) => alarm.raise(reason))
  model.on('unblocked', () => alarm.clear(true))
  try {
    await withinDeadline(waitMs, Promise.race([model.waitForConnect(), refused]), () => nodes.failure)
  } catch (error) {
    await model.close()
    throw error
  }
  return {
    events: model,
    alarm,
    openChannel: async () =>
      openChannel(await connected.promise, { answerMs, isBlocked: () => alarm.reason !== undefined }),
    get openSince() {
      if (connectedAt === undefined || alarm.reason !== undefined) return undefined
      return Math.max(connectedAt, alarm.clearedAt ?? 0)
    },
    async close() {
      const last = current
      connected.promise.catch(() => {})
      connected.reject(new HowdahError('broker_unavailable', 'this connection to RabbitMQ was closed'))
      await atMost(CLOSE_MS, model.close())
      if (last) dropConnection(last)
    },
  }
}

/**
 * Waits for a part of the connection to be ready.
 * @param reason what is known at the deadline about why it is not
 * @throws HowdahError `broker_unavailable` at the deadline, or what the work rejects with
 */
export async function withinDeadline(
  ms: number,
  work: Promise<unknown>,
  reason: () => Error | undefined,
): Promise<void> {
  const { promise: expired, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const cause = reason()
    const because = cause ? `: ${cause.message}` : ''
    const message = `no connection to RabbitMQ within ${ms / 1000} s${because}`
    reject(new HowdahError('broker_unavailable', message, cause ? { cause } : {}))
  }, ms)
  try {
    await Promise.race([work, expired])
  } finally {
    clearTimeout(timer)
  }
}
