/**
 * Opens channels on which every answer of RabbitMQ has a deadline, which amqplib does not give it: a broker that is booting,
 * or whose queue has no leader, may take a declaration and never answer it while its heartbeats come in time. The connection
 * is dropped then, as by a cut cable, and everything on it begins again with the next one.
 */
import type { ChannelModel, ConfirmChannel } from 'amqplib'
import { HowdahError } from './errors.ts'

/** Longer than RabbitMQ itself waits for the parts of an answer: `channel_operation_timeout` is 15 s. */
export const ANSWER_MS = 30_000
/** A message is stored at once where its queue has a leader. What is sent again counts once, by its message_id. */
const CONFIRM_MS = 15_000

/** Where channels are opened. */
export interface Channels {
  /** Waits for a connection. Rejects, as every call on the channel does, when RabbitMQ does not answer in time. */
  openChannel(): Promise<ConfirmChannel>
}

export interface AnswerOptions {
  readonly answerMs: number
  /** RabbitMQ has said that it does not read from the connection: no answer is due then. */
  readonly isBlocked: () => boolean
}

/** @throws HowdahError `broker_unavailable` after the connection was dropped, or what the channel fails with */
export async function openChannel(connection: ChannelModel, options: AnswerOptions): Promise<ConfirmChannel> {
  const { answerMs, isBlocked } = options

  /** Drops the connection unless what it returns is called in time. */
  function expectAnswer(call: string, ms: number, onOverdue: (error: HowdahError) => void): () => void {
    const expire = (): void => {
      if (isBlocked()) {
        timer.refresh()
        return
      }
      const error = unanswered(call, ms)
      onOverdue(error)
      dropConnection(connection, error)
    }
    const timer = setTimeout(expire, ms)
    return () => clearTimeout(timer)
  }

  async function answered<T>(call: string, answer: Promise<T>): Promise<T> {
    const { promise: overdue, reject } = Promise.withResolvers<never>()
    const arrived = expectAnswer(call, answerMs, reject)
    try {
      return await Promise.race([answer, overdue])
    } finally {
      arrived()
    }
  }

  /** A confirm is an answer, too: a queue whose leader hangs may owe it for ever on this channel, and give it on another. */
  const publish: ConfirmChannel['publish'] = (exchange, key, content, properties, onConfirm) => {
    const arrived = expectAnswer('publish', Math.min(answerMs, CONFIRM_MS), () => {})
    try {
      return channel.publish(exchange, key, content, properties, (...confirm) => {
        arrived()
        onConfirm?.(...confirm)
      })
    } catch (error) {
      arrived()
      throw error
    }
  }

  const channel = await answered('createConfirmChannel', connection.createConfirmChannel())
  return new Proxy(channel, {
    get(target, name) {
      if (name === 'publish') return publish
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const result: unknown = Reflect.apply(member, target, args)
        return result instanceof Promise ? answered(String(name), result) : result
      }
    },
  })
}

function unanswered(call: string, ms: number): HowdahError {
  return new HowdahError('broker_unavailable', `RabbitMQ did not answer ${call} within ${ms / 1000} s`)
}

/** amqplib's own `close` waits for an answer, too. Safe to repeat. */
export function dropConnection({ connection }: ChannelModel, reason?: Error): void {
  // amqplib 2 keeps its socket here, and reports what happens to it; its types do not say so.
  const { stream } = connection as { stream?: { destroy(error?: Error): void } }
  stream?.destroy(reason)
}
