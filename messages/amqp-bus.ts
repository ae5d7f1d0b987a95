/**
 * The bus on RabbitMQ, assembled from its parts: connections, publishing, requests, sender, replies and consumers. Messages
 * are defined in definitions.ts, and routed by route.ts.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { createAgentQueue } from './agent-queue.ts'
import { openAgentReplies } from './agent-replies.ts'
import { type BrokerUrl, brokerAddresses, brokerUser } from './broker-address.ts'
import { brokerBlocked } from './broker-alarm.ts'
import type { AgentCommandDelivery, Bus, Outcome } from './bus.ts'
import { type BusObserver, UNOBSERVED } from './bus-observer.ts'
import { type BrokerConnection, type BusTls, withinDeadline } from './connection.ts'
import { openConnections } from './connections.ts'
import { type ConsoleName, consumerTag } from './console-name.ts'
import type { Redelivery } from './consumer.ts'
import { createConsumers } from './consumers.ts'
import {
  declareExchanges,
  declareQueue,
  declareTopology,
  queueLengths,
  withTemporaryChannel,
} from './declare.ts'
import { EXPECT_COMMANDS, EXPECT_REPORTS, type Expected, expectAgentCommands } from './envelope.ts'
import { createExchangeCheck } from './exchange-check.ts'
import { holdLease } from './lease.ts'
import { MAY_STILL_ARRIVE } from './publication-errors.ts'
import { createPublishing, type Publishing } from './publishing.ts'
import { refusedStep } from './refused-step.ts'
import { AGENT_REPLIES, COORDINATOR_REPLIES, createReplies } from './replies.ts'
import { createRequests, type Requests } from './requests.ts'
import {
  agentCommandRoute,
  agentQueryRoute,
  commandRoute,
  eventRoute,
  reportQueryRoute,
  reportRoute,
} from './route.ts'
import { createSender } from './sender.ts'
import { shutDown } from './shutdown.ts'
import {
  AGENTS_EXCHANGE,
  agentQueue,
  COMMANDS_EXCHANGE,
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  COORDINATOR_HEARTBEATS,
  COORDINATOR_LEASE,
  COORDINATOR_OBSERVATIONS,
  COORDINATOR_QUERIES,
  COORDINATOR_QUEUES,
  DIRECT_REPLY,
  EVENTS_EXCHANGE,
  type Queue,
} from './topology.ts'

/** A routing key of the default exchange: no queue has this name. */
const UNROUTED_KEY = 'howdah.nobody'
const PROBE_MS = 2_000
/** Steps are acknowledged at once, and queries are bounded: the deliveries of an agent hold up no others. */
const AGENT_PREFETCH = 128
const ENROLL = { timeoutMs: 5_000 }

/**
 * What a process is on the bus: a coordinator declares the topology and answers through the default exchange, an agent
 * consumes its own queue and publishes events, replies and dead letters, a client publishes commands.
 */
export type BusRole = 'coordinator' | 'agent' | 'client'

export interface ConnectOptions {
  /**
   * `amqp://user:password@host:port/vhost` or `amqps://…`, of a cluster those of all nodes; without a user the
   * certificate says who we are.
   */
  readonly url: BrokerUrl
  /** Goes into `app_id`. */
  readonly appId: string
  /** Kind and name in the RabbitMQ console, like `howdah target db-7`. Default: `appId`. */
  readonly name?: string
  /** The release of Howdah, for the RabbitMQ console. */
  readonly version?: string
  readonly role: BusRole
  readonly logger: Logger
  readonly tls?: BusTls
  /** Handlers that run concurrently, per consumer. Default 20. */
  readonly prefetch?: number
  /** Seconds: RabbitMQ takes the process for gone when it hears nothing for up to three times as long. Default 10, or as the URL says. */
  readonly heartbeatSeconds?: number
  /** Deadline of the first connection. Default 10 s. Later, reconnecting is tried without end. */
  readonly waitMs?: number
  /** Deadline of each answer of RabbitMQ to a call on a channel; after it the connection is dropped. Default 30 s. */
  readonly answerMs?: number
  /** Redelivery of a message whose handler fails. Default: 5 attempts in about three seconds. */
  readonly redelivery?: Redelivery
  /** Default: nobody counts. */
  readonly observer?: BusObserver
}

/**
 * Connects, and stays connected until `close`.
 * @throws HowdahError `broker_unavailable` | `configuration` (user, password, virtual host, exchanges of another shape)
 */
export async function connectBus(options: ConnectOptions): Promise<Bus> {
  const { url, appId, role, logger, tls, prefetch = 20, waitMs = 10_000, observer = UNOBSERVED } = options
  const redelivery = options.redelivery ?? { tries: 5, firstMs: 200, maxMs: 5_000 }
  const addresses = brokerAddresses(url, options.heartbeatSeconds).map(({ href }) => href)
  const shownAs: ConsoleName = { name: options.name ?? appId, version: options.version }
  const tag = consumerTag(shownAs)
  const connections = await openConnections(
    { url: addresses, shownAs, logger, tls, waitMs, answerMs: options.answerMs },
    observer,
  )
  const { publish, consume: consuming } = connections
  const ended = new AbortController()
  const requests = createRequests()
  // Direct Reply-to answers on the channel of the request. An agent asks by a report, everybody else by a command.
  const asking = role === 'agent' ? EVENTS_EXCHANGE.name : COMMANDS_EXCHANGE.name
  const publishing = createPublishing({
    ...{ connection: publish, ended: ended.signal, observer, logger },
    userId: brokerUser(url, tls?.user),
    async setUp(channel, exchange) {
      if (role === 'coordinator') await declareExchanges(channel)
      if (exchange === asking) {
        await channel.consume(DIRECT_REPLY, requests.onReply, { noAck: true, consumerTag: tag })
      }
    },
    onOpen(exchange) {
      if (exchange === asking) requests.resend(exchange)
    },
  })
  watchAlarm(publish, publishing, requests, logger)
  const agentReplies =
    role === 'coordinator'
      ? openAgentReplies({
          ...{ connection: consuming, ended: ended.signal, tag, logger },
          onReply: requests.onReply,
          onOpen: () => requests.resend(AGENTS_EXCHANGE.name),
        })
      : undefined
  try {
    if (agentReplies) await withinDeadline(waitMs, agentReplies.opened, () => agentReplies.failure)
  } catch (error) {
    ended.abort()
    await connections.close()
    throw error
  }
  const sender = createSender({
    ...{ appId, publishing, requests, agentReplies: agentReplies?.queue, alarm: publish.alarm },
    requireExchange: createExchangeCheck(consuming),
  })
  const replies = createReplies({
    ...{ appId, publishing, logger },
    path: role === 'agent' ? AGENT_REPLIES : COORDINATOR_REPLIES,
  })
  const consumers = createConsumers({
    ...{ connection: consuming, ended: ended.signal, tag, observer },
    ...{ prefetch, redelivery, publishing, replies, logger },
  })
  const consume = (queue: Queue, expected: Expected, handle: (delivery: never) => Promise<Outcome>) =>
    consumers.consume({
      ...{ queue, expected, prepare: declareTopology },
      handle: (delivery) => handle(delivery as never),
    })
  let closing: Promise<void> | undefined

  return {
    request: async (type, body, sending) =>
      (await sender.request(commandRoute(type), body, sending)) as never,
    sendToAgent: (agent, type, body, sending) => sender.send(agentCommandRoute(agent, type), body, sending),
    requestAgent: async (agent, type, body, sending) =>
      (await sender.request(agentQueryRoute(agent, type), body, sending)) as never,
    emit: (type, body, sending) => sender.send(eventRoute(type, body), body, sending),
    report: (agent, type, body, sending) => sender.send(reportRoute(agent, type), body, sending),
    askCoordinator: async (agent, type, body, sending) =>
      (await sender.request(reportQueryRoute(agent, type), body, sending)) as never,
    reply: replies.reply,

    consumeCommands: (handler) => consume(COORDINATOR_COMMANDS, EXPECT_COMMANDS, handler),
    consumeQueries: (handler) => consume(COORDINATOR_QUERIES, EXPECT_COMMANDS, handler),
    consumeReports: (handler) => consume(COORDINATOR_EVENTS, EXPECT_REPORTS, handler),
    consumeHeartbeats: (handler) => consume(COORDINATOR_HEARTBEATS, EXPECT_REPORTS, handler),
    consumeObservations: (handler) => consume(COORDINATOR_OBSERVATIONS, EXPECT_REPORTS, handler),
    consumeAgentCommands: (agent, handler, onRefused) =>
      consumers.consume({
        prefetch: AGENT_PREFETCH,
        async refused(message, error) {
          const step = refusedStep(message)
          if (step) await onRefused?.(step, error)
        },
        queue: agentQueue(agent),
        expected: expectAgentCommands(agent),
        prepare: createAgentQueue({
          ...{ connection: consuming, agent },
          enroll: async () =>
            (await sender.request(reportQueryRoute(agent, 'agent.enroll'), agent, ENROLL)) as never,
        }),
        handle: (delivery) => handler(delivery as AgentCommandDelivery),
      }),
    watchEvents: consumers.watch,
    holdLease: (lease) =>
      holdLease(lease, {
        ...{ connection: consuming, ended: ended.signal, tag, logger },
        isTaken: () => reachesQueue(publishing, COORDINATOR_LEASE),
      }),

    declareTopology: () => withTemporaryChannel(consuming, declareTopology),
    enroll: (agent) => withTemporaryChannel(consuming, (channel) => declareQueue(channel, agentQueue(agent))),
    disenroll: (agent) =>
      withTemporaryChannel(consuming, (channel) => channel.deleteQueue(agentQueue(agent).name)),
    queueLengths: () => queueLengths(consuming, COORDINATOR_QUEUES),
    probe: () =>
      publishing.publish({
        exchange: '',
        routingKey: UNROUTED_KEY,
        content: Buffer.from('{}'),
        options: { messageId: randomUUID() },
        timeoutMs: PROBE_MS,
      }),

    get connectedSince() {
      return connections.openSince
    },
    close() {
      closing ??= shutDown({ connections, publishing, requests, consumers, ended })
      return closing
    },
  }
}

/** Requests fail as soon as RabbitMQ takes no messages; publications wait, and are sent when the alarm is over. */
function watchAlarm(
  { events }: BrokerConnection,
  publishing: Publishing,
  requests: Requests,
  logger: Logger,
): void {
  events.on('blocked', (reason) => {
    const error = brokerBlocked(reason, MAY_STILL_ARRIVE)
    logger.warn(error.message)
    requests.fail(error)
  })
  events.on('unblocked', () => {
    logger.warn('RabbitMQ takes messages again')
    publishing.resume()
  })
}

/** Whether there is a queue of that name, of whatever connection, as far as can be seen. Nothing remains in it. */
async function reachesQueue(publishing: Publishing, queue: string): Promise<boolean> {
  try {
    await publishing.publish({
      exchange: '',
      routingKey: queue,
      content: Buffer.from('{}'),
      options: { messageId: randomUUID(), expiration: '0' },
      unroutable: `there is no queue ${queue}`,
      timeoutMs: PROBE_MS,
    })
    return true
  } catch {
    return false
  }
}
