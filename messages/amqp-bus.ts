/**
 * The bus on RabbitMQ. Puts together the connection, the publisher, requests and consumers; what each message is, is
 * known by definitions.ts, and where it goes by topology.ts.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type ConsumeMessage, connect, type RecoveringChannelModel } from 'amqplib'
import type { Logger } from 'pino'
import type { z } from 'zod'
import { amqpFailure } from './amqp-failure.ts'
import { type BrokerAlarm, brokerBlocked, createBrokerAlarm } from './broker-alarm.ts'
import type { AgentCommandDelivery, Bus, CommandDelivery, Consumer, Delivery, EventDelivery } from './bus.ts'
import { type Redelivery, startConsumer } from './consumer.ts'
import { declareDeadLetters, declareExchanges, declareQueue, onOwnChannel } from './declare.ts'
import {
  AGENT_COMMANDS,
  type AgentCommandType,
  COMMANDS,
  EVENTS,
  MAX_MESSAGE_BYTES,
  type MessageType,
} from './definitions.ts'
import {
  EXPECT_COMMANDS,
  EXPECT_EVENTS,
  type Expected,
  envelopeOptions,
  expectAgentCommands,
  MAX_REPLY_BYTES,
  sealBody,
} from './envelope.ts'
import { type ErrorBody, HowdahError } from './errors.ts'
import { keepChannel } from './kept-channel.ts'
import { createPublisher, STILL_ON_ITS_WAY } from './publisher.ts'
import { createRequests } from './requests.ts'
import {
  AGENTS_EXCHANGE,
  agentQueue,
  agentRoutingKey,
  COMMANDS_EXCHANGE,
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  DEAD_LETTERS,
  EVENTS_EXCHANGE,
  eventRoutingKey,
  type Queue,
} from './topology.ts'
import { atMost } from './wait.ts'

/** RabbitMQ answers on the channel that asked, without a queue of our own (Direct Reply-to). */
const DIRECT_REPLY = 'amq.rabbitmq.reply-to'

/** A routing key of the default exchange that no queue has as its name. */
const NOBODY = 'howdah.nobody'
const PROBE_MS = 2_000
/** How long an orderly end may take, handlers and confirms included; then the connection ends all the same. */
const CLOSE_DEADLINE_MS = 18_000
/** How long RabbitMQ may take to answer the end of the connection. */
const GOODBYE_MS = 2_000

export interface BusTls {
  /** PEM: the authority that signed the broker's certificate. */
  readonly ca?: string | Buffer
  /** PEM: our own certificate and key, where the broker asks for one. */
  readonly cert?: string | Buffer
  readonly key?: string | Buffer
}

export interface ConnectOptions {
  /** `amqp://user:password@host:port/vhost` or `amqps://…`. */
  readonly url: string
  /** Goes into `app_id` and is the connection's name in the RabbitMQ console. */
  readonly appId: string
  readonly logger: Logger
  readonly tls?: BusTls
  /** Handlers that run at once, per consumer. Default 20. */
  readonly prefetch?: number
  /** How long to wait for the first connection. Default 10 s; after it, reconnecting never ends. */
  readonly waitMs?: number
  /** How failing handlers are tried again. Default: 15 deliveries in about a minute and a half. */
  readonly redelivery?: Redelivery
}

/**
 * Connects, and stays connected until `close`.
 * @throws HowdahError `broker_unavailable` | `configuration` (user, password, virtual host, exchanges of another shape)
 */
export async function connectBus(options: ConnectOptions): Promise<Bus> {
  const { appId, logger, prefetch = 20, waitMs = 10_000 } = options
  const redelivery = options.redelivery ?? { tries: 15, firstMs: 100, maxMs: 10_000 }
  const alarm = createBrokerAlarm()
  const { connection, upSince } = await openConnection(options, waitMs, alarm)
  const consumers = new Set<Consumer>()
  /** Set when the bus is closed, aborted when its connection is. */
  let closed = false
  const ended = new AbortController()

  const requests = createRequests()
  const publishing = keepChannel({
    connection,
    ended: ended.signal,
    purpose: 'declare the exchanges',
    logger,
    async setUp(channel) {
      await declareExchanges(channel)
      await channel.consume(DIRECT_REPLY, requests.onReply, { noAck: true })
    },
    onOpen(channel) {
      publisher.attach(channel)
      requests.askAgain()
    },
  })
  const publisher = createPublisher({
    channel: () => publishing.current,
    failure: () => publishing.failure,
    blocked: () => alarm.reason,
    logger,
  })
  connection.on('blocked', (reason: string) => {
    alarm.raise(reason)
    const error = brokerBlocked(reason, STILL_ON_ITS_WAY)
    logger.warn(error.message)
    requests.fail(error)
  })
  connection.on('unblocked', () => {
    alarm.clear(true)
    logger.warn('RabbitMQ takes messages again')
    publisher.resume()
  })
  try {
    await within(waitMs, publishing.opened, () => publishing.failure)
  } catch (error) {
    await publishing.close()
    await goodbye()
    throw error
  }

  /** A blocked connection's end is never answered, and one's whose broker hangs neither. */
  async function goodbye(): Promise<void> {
    await atMost(GOODBYE_MS, connection.close())
  }

  /** @throws HowdahError `broker_blocked`: whoever waits for an answer is told at once, instead of after a while */
  function requireOpenBroker(): void {
    if (alarm.reason !== undefined) throw brokerBlocked(alarm.reason, 'Nothing was sent.')
  }

  interface Sending {
    readonly schema: z.ZodType
    readonly type: MessageType
    readonly body: unknown
    readonly exchange: string
    readonly routingKey: string
    readonly unroutable?: string
    readonly messageId: string
    readonly replyTo?: string
    readonly correlationId?: string
    readonly timeoutMs?: number | undefined
    readonly signal?: AbortSignal | undefined
  }

  async function send(sending: Sending): Promise<void> {
    if (closed) throw new HowdahError('broker_unavailable', 'this connection to RabbitMQ was closed')
    const { schema, type, body, exchange, routingKey, unroutable, timeoutMs = 30_000, signal } = sending
    const content = sealBody(schema, type, body)
    const envelope = envelopeOptions({ ...sending, appId })
    await publisher.publish({
      exchange,
      routingKey,
      content,
      options: envelope,
      ...(unroutable !== undefined && { unroutable }),
      timeoutMs,
      signal,
    })
  }

  /** Answers a message; a requester that went away is no error. */
  async function answer(
    to: { replyTo?: string | undefined; correlationId?: string | undefined; type: string },
    content: Buffer,
  ): Promise<void> {
    if (to.replyTo === undefined) return
    const properties = {
      type: `${to.type}.reply`,
      messageId: randomUUID(),
      appId,
      correlationId: to.correlationId,
    }
    await publisher.publish({
      exchange: '',
      routingKey: to.replyTo,
      content,
      options: envelopeOptions(properties),
      timeoutMs: 30_000,
    })
  }

  async function refuse({ properties }: ConsumeMessage, error: ErrorBody): Promise<void> {
    const { replyTo, type } = properties
    if (typeof replyTo !== 'string' || replyTo === '' || replyTo.length > 255) return
    const correlationId: unknown = properties.correlationId ?? properties.messageId
    const to = {
      replyTo,
      type: typeof type === 'string' ? type.slice(0, 64) : 'unknown',
      correlationId: typeof correlationId === 'string' ? correlationId : undefined,
    }
    await answer(to, Buffer.from(JSON.stringify({ accepted: false, error })))
  }

  async function deadLetter(message: ConsumeMessage, queue: string, reason: string): Promise<void> {
    const { fields, properties, content } = message
    // RabbitMQ would check these two against the publisher and its clock; the copy belongs to neither.
    const dropped = ['userId', 'expiration']
    const known = Object.fromEntries(
      Object.entries(properties).filter(([name, value]) => value !== undefined && !dropped.includes(name)),
    )
    await publisher.publish({
      exchange: '',
      routingKey: DEAD_LETTERS.name,
      content: content.subarray(0, MAX_MESSAGE_BYTES),
      options: {
        ...known,
        persistent: true,
        headers: {
          ...properties.headers,
          'howdah-reason': reason.slice(0, 1000),
          'howdah-queue': queue,
          'howdah-exchange': fields.exchange,
          'howdah-routing-key': fields.routingKey,
          ...(content.length > MAX_MESSAGE_BYTES && { 'howdah-original-bytes': content.length }),
        },
      },
      unroutable: `there is no queue ${DEAD_LETTERS.name}`,
      timeoutMs: 30_000,
    })
  }

  async function consume(
    queue: Queue,
    expected: Expected,
    handle: (delivery: Delivery) => ReturnType<Parameters<Bus['consumeCommands']>[0]>,
  ): Promise<Consumer> {
    const consumer = await startConsumer({
      connection,
      ended: ended.signal,
      queue: queue.name,
      prefetch,
      redelivery,
      expected,
      logger,
      async declare(channel) {
        await declareExchanges(channel)
        await declareDeadLetters(connection, logger)
        await declareQueue(channel, queue)
      },
      handle,
      refuse,
      deadLetter,
    })
    return tracked(consumer)
  }

  function tracked(consumer: Consumer): Consumer {
    const entry: Consumer = {
      async close() {
        if (consumers.delete(entry)) await consumer.close()
      },
    }
    consumers.add(entry)
    return entry
  }

  const bus: Bus = {
    async request(type, body, { messageId = randomUUID(), timeoutMs = 30_000, signal } = {}) {
      requireOpenBroker()
      const { body: schema, reply } = COMMANDS[type]
      const unanswered = `the coordinator did not answer ${type} within ${timeoutMs / 1000} s: is "howdah coordinator" (or "howdah up") running? The command waits in the queue ${COORDINATOR_COMMANDS.name}`
      const body_ = await requests.ask({
        schema: reply,
        timeoutMs,
        unanswered,
        signal,
        send: (correlationId, over) =>
          send({
            schema,
            type,
            body,
            exchange: COMMANDS_EXCHANGE.name,
            routingKey: type,
            unroutable: `no queue takes ${type}: no coordinator was ever started on this broker`,
            messageId,
            correlationId,
            replyTo: DIRECT_REPLY,
            timeoutMs,
            signal: over,
          }),
      })
      return body_ as never
    },

    async sendToAgent(agent, type, body, { messageId = randomUUID(), timeoutMs, signal } = {}) {
      await send({
        schema: AGENT_COMMANDS[type].body,
        type,
        body,
        exchange: AGENTS_EXCHANGE.name,
        routingKey: agentRoutingKey(agent),
        unroutable: `the ${agent.kind} agent ${agent.name} has no queue: it never registered on this broker`,
        messageId,
        timeoutMs,
        signal,
      })
    },

    async requestAgent(agent, type, body, { messageId = randomUUID(), timeoutMs = 30_000, signal } = {}) {
      requireOpenBroker()
      const { body: schema, reply } = AGENT_COMMANDS[type]
      const answered = await requests.ask({
        schema: reply,
        timeoutMs,
        unanswered: `the ${agent.kind} agent ${agent.name} did not answer ${type} within ${timeoutMs / 1000} s: is it running?`,
        signal,
        send: (correlationId, over) =>
          send({
            schema,
            type,
            body,
            exchange: AGENTS_EXCHANGE.name,
            routingKey: agentRoutingKey(agent),
            unroutable: `the ${agent.kind} agent ${agent.name} has no queue: it never registered on this broker`,
            messageId,
            correlationId,
            replyTo: DIRECT_REPLY,
            timeoutMs,
            signal: over,
          }),
      })
      return answered as never
    },

    async emit(type, body, { messageId = randomUUID(), timeoutMs, signal } = {}) {
      await send({
        schema: EVENTS[type].body,
        type,
        body,
        exchange: EVENTS_EXCHANGE.name,
        routingKey: eventRoutingKey(type, body),
        messageId,
        timeoutMs,
        signal,
      })
    },

    async reply(delivery, body) {
      const schema = replySchema(delivery.type)
      const content = sealBody(schema, `the reply to ${delivery.type}`, body, MAX_REPLY_BYTES)
      await answer({ ...delivery, correlationId: delivery.correlationId ?? delivery.messageId }, content)
    },

    consumeCommands: (handler) =>
      consume(COORDINATOR_COMMANDS, EXPECT_COMMANDS, (delivery) => handler(delivery as CommandDelivery)),

    consumeCoordinatorEvents: (handler) =>
      consume(COORDINATOR_EVENTS, EXPECT_EVENTS, (delivery) => handler(delivery as EventDelivery)),

    consumeAgentCommands: (agent, handler) =>
      consume(agentQueue(agent), expectAgentCommands(agent), (delivery) =>
        handler(delivery as AgentCommandDelivery),
      ),

    async watchEvents(pattern, handler) {
      const queue = `howdah.watch.${randomUUID()}`
      const consumer = await startConsumer({
        connection,
        ended: ended.signal,
        queue,
        prefetch: 100,
        redelivery: { ...redelivery, tries: 1 },
        expected: EXPECT_EVENTS,
        logger,
        async declare(channel) {
          await channel.assertQueue(queue, { exclusive: true, autoDelete: true, durable: false })
          await channel.bindQueue(queue, EVENTS_EXCHANGE.name, pattern)
        },
        async handle(delivery) {
          handler(delivery as EventDelivery)
          return 'ack'
        },
        // The coordinator has a copy of the same event, and judges it.
        refuse: async () => {},
        deadLetter: async () => {},
      })
      return tracked(consumer)
    },

    async enroll(agent) {
      const queue = agentQueue(agent)
      await declareDeadLetters(connection, logger)
      try {
        await onOwnChannel(connection, (channel) => declareQueue(channel, queue))
      } catch (error) {
        throw amqpFailure(error, `declare the queue ${queue.name}`)
      }
    },

    async probe() {
      await publisher.publish({
        exchange: '',
        routingKey: NOBODY,
        content: Buffer.from('{}'),
        options: { messageId: randomUUID() },
        timeoutMs: PROBE_MS,
      })
    },

    get connectedSince() {
      const since = publishing.current && upSince()
      if (since === undefined || alarm.reason !== undefined) return undefined
      return Math.max(since, alarm.clearedAt ?? 0)
    },

    async close() {
      if (closed) return
      const over = new AbortController()
      const blocked = once(connection, 'blocked', { signal: over.signal }).catch(() => undefined)
      const orderly = async (): Promise<void> => {
        await Promise.all([...consumers].map((consumer) => consumer.close()))
        if (bus.connectedSince !== undefined) await publisher.drain(5_000)
      }
      if (alarm.reason === undefined) {
        await atMost(CLOSE_DEADLINE_MS, Promise.race([orderly(), blocked]))
      }
      over.abort()
      closed = true
      requests.abandon()
      publisher.abandon()
      ended.abort()
      if (alarm.reason === undefined) await publishing.close()
      await goodbye()
    },
  }
  return bus
}

async function openConnection(
  { url, appId, tls, logger }: ConnectOptions,
  waitMs: number,
  alarm: BrokerAlarm,
): Promise<{ connection: RecoveringChannelModel; upSince: () => number | undefined }> {
  const address = brokerAddress(url)
  const connection = await connect(address.href, {
    ...tls,
    timeout: 10_000,
    noDelay: true,
    clientProperties: { connection_name: appId },
    recovery: { initialDelay: 100, maxDelay: 5_000, jitter: 0.5, waitForConnect: false },
  })
  let up: number | undefined
  let last: Error | undefined
  connection.on('connect', () => {
    up = Date.now()
    logger.debug('connected to RabbitMQ')
  })
  connection.on('disconnect', (error: Error) => {
    up = undefined
    alarm.clear(false)
    logger.warn({ err: error }, 'lost the connection to RabbitMQ, reconnecting')
  })
  connection.on('error', (error: Error) => {
    logger.debug({ err: error }, 'RabbitMQ connection error')
  })
  const refused = new Promise<never>((_, reject) => {
    connection.on('connect-failed', (error: Error) => {
      last = amqpFailure(error, `be reached at ${address.hostname}:${address.port || '5672'}`)
      logger.warn({ err: last }, 'cannot connect to RabbitMQ')
      if ((last as HowdahError).code === 'configuration') reject(last)
    })
  })
  refused.catch(() => {})
  try {
    await within(waitMs, Promise.race([connection.waitForConnect(), refused]), () => last)
  } catch (error) {
    await connection.close()
    throw error
  }
  return { connection, upSince: () => up }
}

/** @throws HowdahError `configuration`; the URL, which holds a password, is not in the message */
function brokerAddress(url: string): URL {
  const address = URL.canParse(url) ? new URL(url) : undefined
  if (!address || !['amqp:', 'amqps:'].includes(address.protocol)) {
    throw new HowdahError(
      'configuration',
      'the broker URL must be amqp://user:password@host:port/vhost or amqps://…',
    )
  }
  if (!address.searchParams.has('heartbeat')) address.searchParams.set('heartbeat', '10')
  return address
}

async function within(ms: number, what: Promise<unknown>, reason: () => Error | undefined): Promise<void> {
  const timer = new AbortController()
  const late = once(AbortSignal.any([AbortSignal.timeout(ms), timer.signal]), 'abort').then(() => {
    const why = reason()
    throw new HowdahError(
      'broker_unavailable',
      `no connection to RabbitMQ within ${ms / 1000} s${why ? `: ${why.message}` : ''}`,
      why ? { cause: why } : {},
    )
  })
  late.catch(() => {})
  try {
    await Promise.race([what, late])
  } finally {
    timer.abort()
  }
}

function replySchema(type: string): z.ZodType {
  if (Object.hasOwn(COMMANDS, type)) return COMMANDS[type as keyof typeof COMMANDS].reply
  const query = Object.hasOwn(AGENT_COMMANDS, type) && AGENT_COMMANDS[type as AgentCommandType]
  if (query && 'reply' in query) return query.reply
  throw new HowdahError('internal', `${type} has no reply`)
}
