/** Declares the topology on a channel. Declaring what already exists with the same properties does nothing. */
import type { Channel, RecoveringChannelModel } from 'amqplib'
import type { Logger } from 'pino'
import { amqpFailure, PRECONDITION_FAILED } from './amqp-failure.ts'
import { DEAD_LETTERS, EXCHANGES, type Queue } from './topology.ts'

/** @throws HowdahError `configuration` when one exists with other properties or the user lacks the permission */
export async function declareExchanges(channel: Channel): Promise<void> {
  for (const { name, type } of EXCHANGES) {
    try {
      await channel.assertExchange(name, type, { durable: true })
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
  } catch (error) {
    throw amqpFailure(error, `declare the queue ${queue.name}`)
  }
}

/** Connections on which the warning about a queue of an earlier release was logged. */
const warned = new WeakSet<RecoveringChannelModel>()

/**
 * Declares the queue of dead letters. A queue of an earlier release, whose arguments cannot be changed, is kept with its
 * messages.
 * @throws HowdahError `configuration` when the user lacks the permission
 */
export async function declareDeadLetters(connection: RecoveringChannelModel, logger: Logger): Promise<void> {
  try {
    await withTemporaryChannel(connection, (channel) =>
      channel.assertQueue(DEAD_LETTERS.name, { durable: true, arguments: DEAD_LETTERS.arguments }),
    )
  } catch (error) {
    if ((error as { code?: unknown }).code !== PRECONDITION_FAILED) {
      throw amqpFailure(error, `declare the queue ${DEAD_LETTERS.name}`)
    }
    if (warned.has(connection)) return
    warned.add(connection)
    logger.warn(
      `the queue ${DEAD_LETTERS.name} exists with other properties and is kept. RabbitMQ 4 drops messages that were read and ` +
        'requeued 20 times there; delete the queue when it is empty, and Howdah declares it again',
    )
  }
}

/** Runs the work on a channel of its own, because a refused declaration closes the channel. */
export async function withTemporaryChannel(
  connection: RecoveringChannelModel,
  work: (channel: Channel) => Promise<unknown>,
): Promise<void> {
  const channel = await connection.createConfirmChannel()
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
