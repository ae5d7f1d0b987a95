/**
 * The publications that RabbitMQ has not confirmed yet. Each settles once: by its confirm or its error, at its deadline,
 * or when its signal is aborted. Sends nothing.
 */
import type { Message } from 'amqplib'
import type { Publication } from './publication.ts'
import { abortError } from './wait.ts'

export interface Pending extends Publication {
  /** Sent on the current channel, and not answered. */
  inFlight: boolean
  /** How often RabbitMQ answered by `basic.nack`. */
  refusals: number
  /** RabbitMQ returned it as unroutable. */
  returned: boolean
  /** Resolves or rejects as it is settled. */
  readonly settled: Promise<void>
  /** Without an error it counts as confirmed. Only the first call has an effect. */
  settle(error?: Error): void
}

export interface Unconfirmed {
  /** In the order in which they were added. */
  readonly all: ReadonlySet<Pending>
  /** Not among `all` when its signal is aborted already. `expire` is called at its deadline, and has to settle it. */
  add(publication: Publication, expire: (pending: Pending) => void): Pending
  /** Marks what RabbitMQ returned. It returns a message before it confirms it, on the same channel. */
  markReturned(message: Message): void
  /** Resolves when everything is settled, or at the deadline. */
  drain(timeoutMs: number): Promise<void>
}

export function createUnconfirmed(): Unconfirmed {
  const all = new Set<Pending>()
  const idle = new Set<() => void>()

  return {
    all,

    add(publication, expire) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const { signal, timeoutMs } = publication
      const pending: Pending = {
        ...publication,
        inFlight: false,
        refusals: 0,
        returned: false,
        settled: promise,
        settle(error) {
          if (!all.delete(pending)) return
          clearTimeout(timer)
          signal?.removeEventListener('abort', onAbort)
          if (error) reject(error)
          else resolve()
          if (all.size === 0) for (const wake of idle) wake()
        },
      }
      const onAbort = () => pending.settle(abortError(signal))
      const timer = setTimeout(() => expire(pending), timeoutMs)
      all.add(pending)
      if (signal?.aborted) onAbort()
      else signal?.addEventListener('abort', onAbort)
      return pending
    },

    markReturned({ fields, properties }) {
      for (const pending of all) {
        if (
          pending.inFlight &&
          pending.options.messageId === properties.messageId &&
          pending.exchange === fields.exchange &&
          pending.routingKey === fields.routingKey
        ) {
          pending.returned = true
        }
      }
    },

    async drain(timeoutMs) {
      if (all.size === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, timeoutMs)
      idle.add(resolve)
      await promise
      idle.delete(resolve)
      clearTimeout(timer)
    },
  }
}
