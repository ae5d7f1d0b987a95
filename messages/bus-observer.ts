/** What a bus tells about its work to whoever counts it. Called on the way of every message: must be fast, and not throw. */

/**
 * What became of a delivery: `redelivered`: its handler failed, or it was handed back, and RabbitMQ delivers it again.
 */
export type DeliveryOutcome = 'handled' | 'dead-lettered' | 'redelivered'

export interface ReceivedDelivery {
  readonly queue: string
  /** One of the contract; undefined: another. */
  readonly type: string | undefined
  /** When its sender published it, by the sender's clock, in whole seconds since the epoch; undefined: not given. */
  readonly sentAt: number | undefined
}

export interface BusObserver {
  /** One of the two connections of a process was made, or lost. */
  connection(purpose: 'publish' | 'consume', connected: boolean): void
  /** A delivery arrived; returns what is called once with its outcome. */
  received(delivery: ReceivedDelivery): (outcome: DeliveryOutcome) => void
  /** A message is published; returns what is called once, with whether RabbitMQ has confirmed it. */
  publishing(): (confirmed: boolean) => void
}

/** Counts nothing. */
export const UNOBSERVED: BusObserver = {
  connection: () => undefined,
  received: () => () => undefined,
  publishing: () => () => undefined,
}
