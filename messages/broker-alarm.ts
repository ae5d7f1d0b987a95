/**
 * Whether RabbitMQ takes messages on a connection. During a disk or memory alarm it stops reading from every connection
 * that has published, so that acknowledgements and the close handshake are not read either.
 * Owns the alarm state of one connection. Sends nothing.
 */
import { Unavailable } from './unavailable.ts'

export interface BrokerAlarm {
  /** RabbitMQ's reason while the alarm is on, such as "low on disk"; undefined while messages are taken. */
  readonly reason: string | undefined
  /** When the last alarm ended, in ms since the epoch; undefined if there was none on this connection. */
  readonly clearedAt: number | undefined
  raise(reason: string): void
  /** `known`: RabbitMQ reported the end. Otherwise the connection is a new one, on which RabbitMQ reports an alarm again. */
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
    raise(text) {
      reason = text
    },
    clear(known) {
      reason = undefined
      clearedAt = known ? now() : undefined
    },
  }
}

/** In RabbitMQ's reasons: "low on disk", "low on memory", or both. */
const RESOURCES = ['disk', 'memory']

/** @param consequence a sentence about what happens to the messages that were to be sent */
export function brokerBlocked(reason: string, consequence = ''): Unavailable {
  const short = RESOURCES.filter((name) => reason.includes(name)).join(' and ')
  const what = `RabbitMQ takes no messages: ${short || 'an'} alarm on its machine ("${reason}")`
  const todo = 'Make room there, on the disk or in the memory that it names; work resumes by itself then'
  return new Unavailable(`${what}. ${todo}.${consequence === '' ? '' : ` ${consequence}`}`, {
    code: 'broker_blocked',
  })
}
