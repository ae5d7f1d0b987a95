/** Requests that wait for their replies. Owns the correlation ids of one connection; publishing is the caller's. */
import { randomUUID } from 'node:crypto'
import type { ConsumeMessage } from 'amqplib'
import type { z } from 'zod'
import { bodyError, MAX_REPLY_BYTES } from './envelope.ts'
import { HowdahError } from './errors.ts'
import { parseJson } from './json.ts'
import { abortError } from './wait.ts'

interface Open {
  readonly exchange: string
  readonly schema: z.ZodType
  resolve(body: unknown): void
  reject(error: Error): void
  send(): void
  /** Confirmed by RabbitMQ. Before that, the publisher resends it. */
  sent: boolean
}

export interface AskOptions {
  /** Where the request is published. */
  readonly exchange: string
  readonly schema: z.ZodType
  readonly timeoutMs: number
  /** Message of the error when there is no reply in time. */
  readonly unanswered: string
  readonly signal?: AbortSignal | undefined
  /**
   * Publishes the request with this correlation id; called again, with the same message_id, after a reconnect. The
   * signal aborts when the request is settled.
   */
  send(correlationId: string, settled: AbortSignal): Promise<void>
}

export interface Requests {
  ask(options: AskOptions): Promise<unknown>
  onReply(message: ConsumeMessage | null): void
  /** Sends the confirmed requests of an exchange again: replies on a channel that is gone cannot arrive any more. */
  resend(exchange: string): void
  /** Rejects all open requests. */
  fail(error: Error): void
  /** Rejects all open requests with `broker_unavailable`. */
  close(): void
}

export function createRequests(): Requests {
  const open = new Map<string, Open>()

  function fail(error: Error): void {
    for (const entry of open.values()) entry.reject(error)
  }

  return {
    async ask({ exchange, schema, timeoutMs, unanswered, signal, send }) {
      const correlationId = randomUUID()
      const { promise, resolve, reject } = Promise.withResolvers<unknown>()
      const settled = new AbortController()
      const onAbort = () => reject(abortError(signal))
      const timer = setTimeout(() => reject(new HowdahError('timeout', unanswered)), timeoutMs)
      const entry: Open = {
        exchange,
        schema,
        resolve,
        reject,
        sent: false,
        send() {
          entry.sent = false
          send(correlationId, settled.signal).then(() => {
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
        settled.abort()
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
        const { message: issue } = bodyError(checked.error)
        waiting.reject(new HowdahError('invalid_message', `the reply does not match its schema: ${issue}`))
      }
    },

    resend(exchange) {
      for (const entry of open.values()) if (entry.sent && entry.exchange === exchange) entry.send()
    },

    fail,
    close: () =>
      fail(new HowdahError('broker_unavailable', 'the connection was closed before the reply came')),
  }
}
