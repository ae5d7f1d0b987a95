/** Requests that wait for their reply. Owns the correlation ids of one connection; knows nothing of exchanges. */
import { randomUUID } from 'node:crypto'
import type { ConsumeMessage } from 'amqplib'
import type { z } from 'zod'
import { bodyError, MAX_REPLY_BYTES } from './envelope.ts'
import { HowdahError } from './errors.ts'
import { parseJson } from './json.ts'
import { abortError } from './wait.ts'

interface Open {
  readonly schema: z.ZodType
  resolve(body: unknown): void
  reject(error: Error): void
  send(): void
  /** RabbitMQ has it; before that, the publisher sends it again by itself. */
  sent: boolean
}

export interface AskOptions {
  readonly schema: z.ZodType
  readonly timeoutMs: number
  /** What the error says when nobody answers in time. */
  readonly unanswered: string
  readonly signal?: AbortSignal | undefined
  /**
   * Publishes the request with this correlation id; called again, with the same message_id, after a reconnect. The
   * signal aborts when nobody waits for the reply any more.
   */
  send(correlationId: string, over: AbortSignal): Promise<void>
}

export interface Requests {
  ask(options: AskOptions): Promise<unknown>
  onReply(message: ConsumeMessage | null): void
  /** The channel is a new one, on which replies to what was sent before cannot arrive: sends that again. */
  resend(): void
  /** Rejects everything that is open: no reply to it can come for now. */
  fail(error: Error): void
  /** Rejects everything that is open with `broker_unavailable`. */
  close(): void
}

export function createRequests(): Requests {
  const open = new Map<string, Open>()

  function fail(error: Error): void {
    for (const entry of open.values()) entry.reject(error)
  }

  return {
    async ask({ schema, timeoutMs, unanswered, signal, send }) {
      const correlationId = randomUUID()
      const { promise, resolve, reject } = Promise.withResolvers<unknown>()
      const over = new AbortController()
      const onAbort = () => reject(abortError(signal))
      const timer = setTimeout(() => reject(new HowdahError('timeout', unanswered)), timeoutMs)
      const entry: Open = {
        schema,
        resolve,
        reject,
        sent: false,
        send() {
          entry.sent = false
          send(correlationId, over.signal).then(() => {
            entry.sent = true
          }, reject)
        },
      }
      open.set(correlationId, entry)
      signal?.addEventListener('abort', onAbort)
      if (signal?.aborted) onAbort()
      else entry.send()
      try {
        return await promise
      } finally {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        open.delete(correlationId)
        over.abort()
      }
    },

    onReply(message) {
      const waiting = open.get(String(message?.properties.correlationId))
      if (!message || !waiting) return
      const parsed = message.content.length > MAX_REPLY_BYTES ? undefined : parseJson(message.content)
      if (!parsed) {
        waiting.reject(new HowdahError('invalid_message', 'the reply is not JSON, or too large'))
        return
      }
      const checked = waiting.schema.safeParse(parsed.value)
      if (checked.success) waiting.resolve(checked.data)
      else {
        const { message: said } = bodyError(checked.error)
        waiting.reject(new HowdahError('invalid_message', `the reply does not match its schema: ${said}`))
      }
    },

    resend() {
      for (const entry of open.values()) if (entry.sent) entry.send()
    },

    fail,
    close: () =>
      fail(new HowdahError('broker_unavailable', 'the connection was closed before the reply came')),
  }
}
