/**
 * The publications that were unconfirmed when RabbitMQ closed a channel for one of them. While there are any, they are
 * sent one by one and nothing else is sent. Finds out which RabbitMQ accepts; what to do with the refused one is up to
 * the publisher.
 */
import type { ConfirmChannel } from 'amqplib'
import type { Pending } from './unconfirmed.ts'

export interface Suspects {
  readonly isEmpty: boolean
  /** The suspect that is being sent alone: RabbitMQ refused it if it closes the channel for a message now. */
  readonly probed: Pending | undefined
  add(pending: Pending): void
  /** Whether a publication must wait: there are suspects, and it is not the one that is being sent. */
  holdsBack(pending: Pending): boolean
  /** Sends the first suspect, unless one is being sent, and calls `transmitAll` when RabbitMQ accepted it. */
  probe(): void
  /** Forgets which suspect was being sent, for a new channel. */
  restart(): void
}

export interface SuspectsOptions {
  readonly unconfirmed: ReadonlySet<Pending>
  readonly channel: () => ConfirmChannel | undefined
  readonly blocked: () => string | undefined
  transmit(pending: Pending): void
  /** Sends what can be sent: the next suspect, or everything when there is none left. */
  transmitAll(): void
}

export function createSuspects(options: SuspectsOptions): Suspects {
  const { unconfirmed, channel, blocked, transmit, transmitAll } = options
  const suspects = new Set<Pending>()
  let probed: Pending | undefined

  return {
    get isEmpty() {
      return suspects.size === 0
    },
    get probed() {
      return probed
    },
    add: (pending) => void suspects.add(pending),
    holdsBack: (pending) => suspects.size > 0 && pending !== probed,

    probe() {
      const current = channel()
      if (!current || probed || blocked() !== undefined) return
      for (const suspect of suspects) if (!unconfirmed.has(suspect)) suspects.delete(suspect)
      const [first] = suspects
      if (!first) {
        transmitAll()
        return
      }
      probed = first
      transmit(first)
      // RabbitMQ handles a channel in order: when a call after it succeeds, it was not refused.
      void isAlive(current).then((accepted) => {
        if (!accepted || current !== channel()) return // the next channel goes on
        suspects.delete(first)
        probed = undefined
        transmitAll()
      })
    },

    restart() {
      probed = undefined
    },
  }
}

/** Whether RabbitMQ has handled everything that was sent on the channel, and closed it for none of it. Changes nothing. */
async function isAlive(channel: ConfirmChannel): Promise<boolean> {
  try {
    await channel.prefetch(0)
    return true
  } catch {
    return false
  }
}
