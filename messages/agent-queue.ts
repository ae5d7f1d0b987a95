/**
 * What an agent does before it consumes its queue, on every new channel: it makes sure that the queue exists, and takes the
 * lock of its name. It declares nothing but that lock; the coordinator declares the queue, and is asked for it here.
 */
import type { Channel } from 'amqplib'
import { amqpFailure, RESOURCE_LOCKED } from './amqp-failure.ts'
import type { Channels } from './channels.ts'
import { queueExists } from './declare.ts'
import type { EventReply } from './definitions.ts'
import { HowdahError } from './errors.ts'
import { type AgentAddress, agentLock, agentQueue } from './topology.ts'
import { Unavailable } from './unavailable.ts'

export interface AgentInstance extends AgentAddress {
  /** Identifies this process among all that ever had the name of the agent. */
  readonly instance: string
}

export interface AgentQueueOptions {
  readonly connection: Channels
  readonly agent: AgentInstance
  /** Asks the coordinator, by `agent.enroll`. Rejects while it does not answer. */
  readonly enroll: () => Promise<EventReply<'agent.enroll'>>
  readonly now?: () => number
}

/** RabbitMQ keeps the lock of a connection that was cut off for up to three heartbeats, of 10 s by default. */
const LOCK_GRACE_MS = 60_000

/**
 * To be called with each channel before it consumes.
 * @throws Unavailable while the queue is missing, or may be locked by an earlier connection of this process
 * @throws HowdahError `configuration` when another process has the name, with the host that it runs on
 */
export function createAgentQueue(options: AgentQueueOptions): (channel: Channel) => Promise<void> {
  const { connection, agent, enroll, now = Date.now } = options
  const queue = agentQueue(agent).name
  let lockedSince: number | undefined

  return async (channel) => {
    if (!(await queueExists(connection, queue))) throw await missing(agent, enroll)
    try {
      await channel.assertQueue(agentLock(agent), { exclusive: true, durable: false })
      lockedSince = undefined
    } catch (error) {
      if ((error as { code?: unknown }).code !== RESOURCE_LOCKED) throw amqpFailure(error, `lock ${queue}`)
      lockedSince ??= now()
      const asked = now()
      const holder = await enroll().then(
        (reply) => (reply.accepted ? reply.holder : undefined),
        () => undefined,
      )
      throw locked({ agent, holder, asked, lockedSince })
    }
  }
}

async function missing(agent: AgentInstance, enroll: AgentQueueOptions['enroll']): Promise<Unavailable> {
  const { kind, name } = agent
  const why = await enroll().then(
    (reply) =>
      reply.accepted
        ? 'the coordinator declares it now'
        : `the coordinator does not declare it: ${reply.error.message}`,
    (error: Error) => `the coordinator could not be asked to declare it: ${error.message}`,
  )
  return new Unavailable(
    `there is no queue ${agentQueue(agent).name} yet; ${why}. "howdah broker setup --agent ${kind}:${name}" declares it, too`,
    { code: 'unroutable' },
  )
}

interface Locked {
  readonly agent: AgentInstance
  /** Who has the name, as the coordinator knows it. */
  readonly holder: Extract<EventReply<'agent.enroll'>, { accepted: true }>['holder']
  /** When the coordinator was asked, and since when the lock was refused. */
  readonly asked: number
  readonly lockedSince: number
}

function locked({ agent, holder, asked, lockedSince }: Locked): HowdahError {
  const another = holder !== undefined && holder.instance !== agent.instance
  const isAlive = another && asked - holder.silentMs > lockedSince
  const name = `the name "${agent.name}" of this ${agent.kind} agent`
  const where = another ? ` on ${holder.host}` : ''
  if (isAlive || asked - lockedSince > LOCK_GRACE_MS) {
    return new HowdahError(
      'configuration',
      `${name} belongs to another process${where}, which is connected to this broker: give each agent a name of its own, or stop the other one`,
    )
  }
  return new Unavailable(
    `${name} is still taken at the broker, by another process${where} or by an earlier connection of this one`,
  )
}
