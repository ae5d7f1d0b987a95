/**
 * Whether RabbitMQ takes messages on a connection: while an alarm of its disk or memory is on, it stops reading from
 * every connection that has published, acknowledgements and the end of the connection included.
 * Owns what is known of one connection's alarm; sends nothing.
 */
import { HowdahError } from './errors.ts'

export interface BrokerAlarm {
  /** RabbitMQ's own words while the alarm is on, as "low on disk"; undefined: messages are taken. */
  readonly reason: string | undefined
  /** Since when messages are taken again, in ms since the epoch; undefined: there was no alarm on this connection. */
  readonly clearedAt: number | undefined
  raise(reason: string): void
  /** `known`: RabbitMQ said so, in contrast to a new connection, which RabbitMQ would tell of an alarm anew. */
  clear(known: boolean): void
}

export function createBrokerAlarm(now: () => number = Date.now): BrokerAlarm {
  let reason: string | undefined
  let clearedAt: number | undefined
  return {
    get reason() {
      return reason
    },
    get clearedAt() {
      return clearedAt
    },
    raise(said) {
      reason = said
    },
    clear(known) {
      reason = undefined
      clearedAt = known ? now() : undefined
    },
  }
}

/** @param consequence what becomes of that which was to be sent: a sentence */
export function brokerBlocked(reason: string, consequence = ''): HowdahError {
  const what = `RabbitMQ takes no messages: an alarm on its machine is on, "${reason}"`
  const todo = 'Make room there, on the disk or in the memory that it names; it goes on by itself then'
  return new HowdahError('broker_blocked', `${what}. ${todo}.${consequence === '' ? '' : ` ${consequence}`}`)
}
