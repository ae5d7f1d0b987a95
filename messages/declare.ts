/**
 * Declares the topology on a channel, as the coordinator does. Declaring what already exists with the same properties does
 * nothing. Agents and clients declare nothing of it, and only ask whether something is there.
 */
import type { Channel } from 'amqplib'
import { amqpFailure, NOT_FOUND } from './amqp-failure.ts'
import type { Channels } from './channels.ts'
import { COORDINATOR_QUEUES, EXCHANGES, type Queue } from './topology.ts'

/** @throws HowdahError `configuration` when one exists with other properties or the user lacks the permission */
export async function declareExchanges(channel: Channel): Promise<void> {
  for (const { name, type, ...exchange } of EXCHANGES) {
    const alternate = 'alternate' in exchange ? { alternateExchange: exchange.alternate.name } : {}
    try {
      await channel.assertExchange(name, type, { durable: true, ...alternate })
    } catch (error) {
      throw amqpFailure(error, `declare the exchange ${name}`)
    }
  }
}

/** @throws HowdahError `configuration` when it exists with other properties or the user lacks the permission */
export async function declareQueue(channel: Channel, queue: Queue): Promise<void> {
  try {
    await channel.assertQueue(queue.name, { durable: true, arguments: queue.arguments })
    for (const { exchange, pattern } of queue.bindings) {
      await channel.bindQueue(queue.name, exchange.name, pattern)
    }
    for (const { exchange, pattern } of queue.formerBindings ?? []) {
      await channel.unbindQueue(queue.name, exchange.name, pattern)
    }
  } catch (error) {
    throw amqpFailure(error, `declare the queue ${queue.name}`)
  }
}

/** Everything but the queues of agents. @throws as `declareExchanges` and `declareQueue` */
export async function declareTopology(channel: Channel): Promise<void> {
  await declareExchanges(channel)
  for (const queue of COORDINATOR_QUEUES) await declareQueue(channel, queue)
}

/** Whether the queue exists. It needs no permission to ask. @throws what the channel or the connection fails with */
export function queueExists(connection: Channels, name: string): Promise<boolean> {
  return exists(connection, (channel) => channel.checkQueue(name))
}

/** Whether the exchange exists. It needs no permission to ask. @throws what the channel or the connection fails with */
export function exchangeExists(connection: Channels, name: string): Promise<boolean> {
  return exists(connection, (channel) => channel.checkExchange(name))
}

/** The messages in each of these queues that are not delivered yet. It needs no permission to ask. @throws when one does not exist */
export async function queueLengths(
  connection: Channels,
  queues: readonly Pick<Queue, 'name'>[],
): Promise<Map<string, number>> {
  const lengths = new Map<string, number>()
  await withTemporaryChannel(connection, async (channel) => {
    for (const { name } of queues) lengths.set(name, (await channel.checkQueue(name)).messageCount)
  })
  return lengths
}

/** Runs the work on a channel of its own, because a refused declaration closes the channel. */
export async function withTemporaryChannel(
  connection: Channels,
  work: (channel: Channel) => Promise<unknown>,
): Promise<void> {
  const channel = await connection.openChannel()
  let alive = true
  channel.once('close', () => {
    alive = false
  })
  channel.on('error', () => {}) // the call that caused it rejects
  try {
    await work(channel)
  } finally {
    if (alive) await channel.close().catch(() => {})
  }
}

async function exists(connection: Channels, check: (channel: Channel) => Promise<unknown>): Promise<boolean> {
  try {
    await withTemporaryChannel(connection, check)
    return true
  } catch (error) {
    if ((error as { code?: unknown }).code === NOT_FOUND) return false
    throw error
  }
}
