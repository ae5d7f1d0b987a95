/** Owns a look at the messages of a fleet: how large each type becomes. Commands, steps and events; replies are not seen. */
import { connect } from 'amqplib'
import type { Fleet } from './fleet.ts'

export interface MessageSizes {
  /** The largest body of each type so far. Bytes. */
  largest(): ReadonlyMap<string, number>
  close(): Promise<void>
}

export async function watchMessageSizes(fleet: Pick<Fleet, 'brokerUrl'>): Promise<MessageSizes> {
  const connection = await connect(fleet.brokerUrl)
  const channel = await connection.createChannel()
  const { queue } = await channel.assertQueue('', { exclusive: true })
  const bindings = [
    ['howdah.commands', '#'],
    ['howdah.events', '#'],
    ['howdah.agents', 'mount.backup-1'],
    ['howdah.agents', 'target.db-7'],
  ] as const
  for (const [exchange, key] of bindings) await channel.bindQueue(queue, exchange, key)
  const largest = new Map<string, number>()
  await channel.consume(
    queue,
    (message) => {
      if (message === null) return
      const type = String(message.properties.type)
      largest.set(type, Math.max(largest.get(type) ?? 0, message.content.length))
    },
    { noAck: true },
  )
  return {
    largest: () => largest,
    async close() {
      await connection.close()
    },
  }
}
