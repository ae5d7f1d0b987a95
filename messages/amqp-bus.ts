/**
 * The bus on RabbitMQ, assembled from its parts: connection, publisher, requests, sender, replies and consumers. Messages
 * are defined in definitions.ts, and routed by route.ts.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { amqpFailure } from './amqp-failure.ts'
import { brokerBlocked } from './broker-alarm.ts'
import type { AgentCommandDelivery, Bus, CommandDelivery, EventDelivery } from './bus.ts'
import { type BrokerConnection, type BusTls, openConnection, withinDeadline } from './connection.ts'
import type { Redelivery } from './consumer.ts'
import { createConsumers } from './consumers.ts'
import { declareDeadLetters, declareExchanges, declareQueue, withTemporaryChannel } from './declare.ts'
import { EXPECT_COMMANDS, EXPECT_EVENTS, expectAgentCommands } from './envelope.ts'
import { createPublisher, MAY_STILL_ARRIVE, type Publisher } from './publisher.ts'
import { createRecoveringChannel, type RecoveringChannel } from './recovering-channel.ts'
import { createReplies } from './replies.ts'
import { createRequests, type Requests } from './requests.ts'
import { agentCommandRoute, agentQueryRoute, commandRoute, eventRoute } from './route.ts'
import { createSender, DIRECT_REPLY } from './sender.ts'
import { shutDown } from './shutdown.ts'
import { agentQueue, COORDINATOR_COMMANDS, COORDINATOR_EVENTS, type Queue } from './topology.ts'

/** A routing key of the default exchange: no queue has this name. */
const UNROUTED_KEY = 'howdah.nobody'
const PROBE_MS = 2_000

export interface ConnectOptions {
  /** `amqp://user:password@host:port/vhost` or `amqps://…`. */
  readonly url: string
  /** Goes into `app_id` and is the connection's name in the RabbitMQ console. */
  readonly appId: string
  readonly logger: Logger
  readonly tls?: BusTls
  /** Handlers that run concurrently, per consumer. Default 20. */
  readonly prefetch?: number
  /** Deadline of the first connection. Default 10 s. Later, reconnecting is tried without end. */
  readonly waitMs?: number
  /** Redelivery of a message whose handler fails. Default: 5 attempts in about three seconds. */
  readonly redelivery?: Redelivery
}

/**
 * Connects, and stays connected until `close`.
 * @throws HowdahError `broker_unavailable` | `configuration` (user, password, virtual host, exchanges of another shape)
 */
export async function connectBus(options: ConnectOptions): Promise<Bus> {
  const { url, appId, logger, tls, prefetch = 20, waitMs = 10_000 } = options
  const redelivery = options.redelivery ?? { tries: 5, firstMs: 200, maxMs: 5_000 }
  const connection = await openConnection({ url, appId, logger, tls, waitMs })
  const ended = new AbortController()
  const requests = createRequests()
  const { publishing, publisher } = openPublishing(connection, requests, ended.signal, logger)
  watchAlarm(connection, publisher, requests, logger)
  try {
    await withinDeadline(waitMs, publishing.opened, () => publishing.failure)
  } catch (error) {
    await publishing.close()
    await connection.close()
    throw error
  }
  const sender = createSender({ appId, publisher, requests, alarm: connection.alarm })
  const replies = createReplies({ appId, publisher })
  const consumers = createConsumers({
    ...{ connection: connection.model, ended: ended.signal },
    ...{ prefetch, redelivery, publisher, replies, logger },
  })
  let closing: Promise<void> | undefined

  return {
    request: async (type, body, sending) =>
      (await sender.request(commandRoute(type), body, sending)) as never,
    sendToAgent: (agent, type, body, sending) => sender.send(agentCommandRoute(agent, type), body, sending),
    requestAgent: async (agent, type, body, sending) =>
      (await sender.request(agentQueryRoute(agent, type), body, sending)) as never,
    emit: (type, body, sending) => sender.send(eventRoute(type, body), body, sending),
    reply: replies.reply,

    consumeCommands: (handler) =>
      consumers.consume(COORDINATOR_COMMANDS, EXPECT_COMMANDS, (delivery) =>
        handler(delivery as CommandDelivery),
      ),
    consumeCoordinatorEvents: (handler) =>
      consumers.consume(COORDINATOR_EVENTS, EXPECT_EVENTS, (delivery) => handler(delivery as EventDelivery)),
    consumeAgentCommands: (agent, handler) =>
      consumers.consume(agentQueue(agent), expectAgentCommands(agent), (delivery) =>
        handler(delivery as AgentCommandDelivery),
      ),
    watchEvents: consumers.watch,

    enroll: (agent) => enroll(connection, agentQueue(agent), logger),
    disenroll: (agent) =>
      withTemporaryChannel(connection.model, (channel) => channel.deleteQueue(agentQueue(agent).name)),
    probe: () =>
      publisher.publish({
        exchange: '',
        routingKey: UNROUTED_KEY,
        content: Buffer.from('{}'),
        options: { messageId: randomUUID() },
        timeoutMs: PROBE_MS,
      }),

    get connectedSince() {
      return publishing.current && connection.openSince
    },
    close() {
      closing ??= shutDown({ connection, publishing, publisher, requests, consumers, ended })
      return closing
    },
  }
}

/** The channel that everything is published on and replies arrive on, and its publisher. */
function openPublishing(
  { model, alarm }: BrokerConnection,
  requests: Requests,
  ended: AbortSignal,
  logger: Logger,
): { publishing: RecoveringChannel; publisher: Publisher } {
  const publishing = createRecoveringChannel({
    connection: model,
    ended,
    purpose: 'declare the exchanges',
    logger,
    async setUp(channel) {
      await declareExchanges(channel)
      await channel.consume(DIRECT_REPLY, requests.onReply, { noAck: true })
    },
    onOpen(channel) {
      publisher.attach(channel)
      requests.resend()
    },
  })
  const publisher = createPublisher({
    channel: () => publishing.current,
    failure: () => publishing.failure,
    blocked: () => alarm.reason,
    logger,
  })
  return { publishing, publisher }
}

/** Requests fail as soon as RabbitMQ takes no messages; publications wait, and are sent when the alarm is over. */
function watchAlarm(
  { model }: BrokerConnection,
  publisher: Publisher,
  requests: Requests,
  logger: Logger,
): void {
  model.on('blocked', (reason) => {
    const error = brokerBlocked(reason, MAY_STILL_ARRIVE)
    logger.warn(error.message)
    requests.fail(error)
  })
  model.on('unblocked', () => {
    logger.warn('RabbitMQ takes messages again')
    publisher.resume()
  })
}

async function enroll({ model }: BrokerConnection, queue: Queue, logger: Logger): Promise<void> {
  await declareDeadLetters(model, logger)
  try {
    await withTemporaryChannel(model, (channel) => declareQueue(channel, queue))
  } catch (error) {
    throw amqpFailure(error, `declare the queue ${queue.name}`)
  }
}
