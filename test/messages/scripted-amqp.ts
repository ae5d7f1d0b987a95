/** amqplib's connection and channels without a broker: tests see what is sent to RabbitMQ and script its answers. */
import { EventEmitter } from 'node:events'
import {
  type ConfirmChannel,
  type ConsumeMessage,
  IllegalOperationError,
  type MessageProperties,
  type Options,
} from 'amqplib'
import type { Channels } from '../../messages/channels.ts'
import { CONTRACT_VERSION } from '../../messages/definitions.ts'

const UNTIL_MS = 10_000

export interface Published {
  readonly exchange: string
  readonly routingKey: string
  readonly content: Buffer
  readonly options: Options.Publish
  /** RabbitMQ's answer to the publication. */
  confirm(error?: Error): void
}

export class ScriptedChannel extends EventEmitter {
  readonly published: Published[] = []
  /** Calls in order, such as `ack 1`, `nack 2`, `cancel tag`. */
  readonly calls: string[] = []
  isClosed = false
  /** Called for each publication, such as to close the channel for it. */
  onPublish: (publication: Published) => void = () => {}
  /** What amqplib throws for a publication that it cannot encode. */
  encoderError: Error | undefined
  /** Errors that the next declarations are answered with. */
  readonly refusals: Error[] = []
  readonly #onMessage = new Map<string, (message: ConsumeMessage | null) => void>()

  constructor() {
    super()
    // As amqplib: before anybody else hears of the close, it fails all confirms.
    this.on('close', () => {
      for (const publication of this.published) publication.confirm(new Error('channel closed'))
    })
  }

  /** As amqplib's type. Methods that the tests do not need are missing. */
  get asChannel(): ConfirmChannel {
    return this as unknown as ConfirmChannel
  }

  publish(
    exchange: string,
    routingKey: string,
    content: Buffer,
    options: Options.Publish,
    confirmed: (error: unknown) => void,
  ): boolean {
    if (this.isClosed) throw new IllegalOperationError('Channel closed')
    if (this.encoderError) throw this.encoderError
    let isOpen = true
    const confirm = (error?: Error): void => {
      if (isOpen) confirmed(error ?? null)
      isOpen = false
    }
    const publication = { exchange, routingKey, content, options, confirm }
    this.published.push(publication)
    this.onPublish(publication)
    return true
  }

  async assertExchange(name: string): Promise<void> {
    this.#declare(`exchange ${name}`)
  }

  async assertQueue(name: string): Promise<void> {
    this.#declare(`queue ${name}`)
  }

  async bindQueue(name: string, exchange: string, pattern: string): Promise<void> {
    this.#declare(`bind ${name} ${exchange} ${pattern}`)
  }

  async prefetch(count: number): Promise<void> {
    if (this.isClosed) throw new IllegalOperationError('Channel closed')
    this.calls.push(`prefetch ${count}`)
  }

  async consume(
    queue: string,
    onMessage: (message: ConsumeMessage | null) => void,
  ): Promise<{ consumerTag: string }> {
    this.calls.push(`consume ${queue}`)
    this.#onMessage.set(queue, onMessage)
    return { consumerTag: queue }
  }

  async checkQueue(name: string): Promise<void> {
    this.calls.push(`check ${name}`)
  }

  async cancel(tag: string): Promise<void> {
    this.calls.push(`cancel ${tag}`)
  }

  ack({ fields }: ConsumeMessage): void {
    this.#settle(`ack ${fields.deliveryTag}`)
  }

  nack({ fields }: ConsumeMessage): void {
    this.#settle(`nack ${fields.deliveryTag}`)
  }

  reject({ fields }: ConsumeMessage): void {
    this.#settle(`reject ${fields.deliveryTag}`)
  }

  async close(): Promise<void> {
    this.calls.push('close')
    this.break()
  }

  /** RabbitMQ delivers a message; null: it cancelled the consumer. */
  deliver(queue: string, message: ConsumeMessage | null): void {
    const onMessage = this.#onMessage.get(queue)
    if (onMessage === undefined) throw new Error(`nothing consumes ${queue}`)
    onMessage(message)
  }

  /** RabbitMQ closes the channel, with an error where there is one. */
  break(error?: Error): void {
    if (this.isClosed) return
    this.isClosed = true
    if (error) this.emit('error', error)
    this.emit('close')
  }

  #declare(what: string): void {
    this.calls.push(what)
    const refusal = this.refusals.shift()
    if (refusal) throw refusal
  }

  #settle(call: string): void {
    if (this.isClosed) throw new IllegalOperationError('Channel closed')
    this.calls.push(call)
  }
}

export class ScriptedConnection extends EventEmitter {
  readonly channels: ScriptedChannel[] = []
  isClosed = false
  /** Prepares a channel before it is handed out. */
  onChannel: (channel: ScriptedChannel) => void = () => {}

  get asConnection(): Channels {
    return { openChannel: async () => (await this.openChannel()).asChannel }
  }

  async openChannel(): Promise<ScriptedChannel> {
    const channel = new ScriptedChannel()
    this.channels.push(channel)
    this.onChannel(channel)
    return channel
  }

  async close(): Promise<void> {
    this.isClosed = true
  }
}

/** A valid delivery of `session.show`, to be modified. */
export function delivered(
  deliveryTag: number,
  properties: Partial<MessageProperties> = {},
  content = '{"session":"s1"}',
): ConsumeMessage {
  return {
    content: Buffer.from(content),
    fields: {
      ...{ deliveryTag, redelivered: false, consumerTag: 'tag' },
      ...{ exchange: 'howdah.commands', routingKey: 'session.show' },
    },
    properties: {
      ...{ type: 'session.show', messageId: `m-${deliveryTag}` },
      ...properties,
      headers: { 'howdah-version': CONTRACT_VERSION, ...properties.headers },
    } as MessageProperties,
  }
}

/** Waits until something holds, which takes a few turns of the event loop at most. */
export async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + UNTIL_MS
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not so after ${UNTIL_MS / 1000} s: ${holds}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** An error as amqplib gives it for a channel that RabbitMQ closed. */
export function replyError(code: number): Error {
  return Object.assign(new Error(`Operation failed: ${code}`), { code })
}

/** The error of a channel that RabbitMQ closed for a message that was published on it. */
export function publishError(code: number, text = ''): Error {
  return Object.assign(new Error(`Channel closed by server: ${code} ${text}`), {
    ...{ code, classId: 60, methodId: 40 },
  })
}
