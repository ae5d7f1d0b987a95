/** A foreign client of the contract: plain amqplib, which sends anything that a test wants to send. */
import { randomUUID } from 'node:crypto'
import { type ChannelModel, type ConfirmChannel, connect, type GetMessage, type Options } from 'amqplib'
import { CONTRACT_VERSION } from '../../messages/definitions.ts'
import { DEAD_LETTERS } from '../../messages/topology.ts'

export interface RawClient {
  readonly channel: ConfirmChannel
  /** Publishes and waits for the reply; undefined when the message was dead-lettered and none came. */
  ask(exchange: string, key: string, content: Buffer | string, options?: Options.Publish): Promise<RawReply>
  publish(exchange: string, key: string, content: Buffer | string, options?: Options.Publish): Promise<void>
  /** The next dead letter; waits for it. */
  deadLetter(): Promise<GetMessage>
  close(): Promise<void>
}

export interface RawReply {
  readonly correlationId: unknown
  readonly body: { accepted: boolean; error?: { code: string; message: string; field?: string } }
}

/** Properties of a valid message, to be modified. */
export function properties(type: string, more: Options.Publish = {}): Options.Publish {
  return { type, messageId: randomUUID(), headers: { 'howdah-version': CONTRACT_VERSION }, ...more }
}

export async function connectRaw(url: string): Promise<RawClient> {
  const model: ChannelModel = await connect(url, { noDelay: true })
  const channel = await model.createConfirmChannel()
  const { queue } = await channel.assertQueue(`howdah.reply.${randomUUID()}`, { exclusive: true })
  const waiting: ((reply: RawReply) => void)[] = []
  await channel.consume(
    queue,
    (message) => {
      if (!message) return
      const body = JSON.parse(message.content.toString()) as RawReply['body']
      waiting.shift()?.({ correlationId: message.properties.correlationId, body })
    },
    { noAck: true },
  )
  const client: RawClient = {
    channel,
    async ask(exchange, key, content, options = {}) {
      const { promise, resolve } = Promise.withResolvers<RawReply>()
      waiting.push(resolve)
      await client.publish(exchange, key, content, { ...options, replyTo: queue })
      return promise
    },
    async publish(exchange, key, content, options = {}) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      channel.publish(exchange, key, Buffer.from(content), options, (error: unknown) =>
        error ? reject(error as Error) : resolve(),
      )
      await promise
    },
    async deadLetter() {
      for (;;) {
        const message = await channel.get(DEAD_LETTERS.name, { noAck: true })
        if (message) return message
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    close: () => model.close(),
  }
  return client
}
