/** Declares the topology on a channel. Declaring what is there already, in the same shape, does nothing. */
import type { Channel } from 'amqplib'
import { amqpFailure } from './amqp-failure.ts'
import { EXCHANGES, type Queue } from './topology.ts'

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
