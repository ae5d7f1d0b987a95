/** Declares the topology on a channel. Declaring what is there already, in the same shape, does nothing. */
import type { Channel, RecoveringChannelModel } from 'amqplib'
import type { Logger } from 'pino'
import { amqpFailure, PRECONDITION_FAILED } from './amqp-failure.ts'
import { DEAD_LETTERS, EXCHANGES, type Queue } from './topology.ts'

/** @throws HowdahError `configuration` when one exists in another shape or this user may not */
export async function declareExchanges(channel: Channel): Promise<void> {
  for (const { name, type } of EXCHANGES) {
    try {
      await channel.assertExchange(name, type, { durable: true })
    } catch (error) {
      throw amqpFailure(error, `declare the exchange ${name}`)
    }
  }
}

/** @throws HowdahError `configuration` when it exists in another shape or this user may not */
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

/** Connections on which it was said that an older queue is kept: once is enough. */
const warned = new WeakSet<RecoveringChannelModel>()

/**
 * The queue of dead letters. One that an earlier release of Howdah made, whose arguments cannot be changed any more, is
 * kept with what is in it.
 * @throws HowdahError `configuration` when this user may not
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
      `the queue ${DEAD_LETTERS.name} was made with other properties and is kept as it is. RabbitMQ 4 throws away ` +
        'what was looked at 20 times there; delete the queue when it is empty, and Howdah makes it anew',
    )
  }
}

/** A refused declaration closes its channel: this one is for nothing else. */
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
