/**
 * The metrics of a role's connection to RabbitMQ: connected or not, what is published, and how long deliveries wait and are
 * handled. Fits the observer of the bus, which it does not know.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** Seconds, by clocks of whole seconds: how old a message is when it has been handled. */
const AGE_BUCKETS = [1, 2, 5, 10, 30, 60, 120, 300, 900, 3600]
const HANDLING_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120]
/** An older timestamp, or a missing one, is a mistake of its sender and tells nothing. Seconds. */
const OLDEST_BELIEVED = 86_400

interface Received {
  readonly queue: string
  readonly type: string | undefined
  /** Whole seconds since the epoch. */
  readonly sentAt: number | undefined
}

/** `now`: milliseconds since the epoch. */
export function brokerMetrics(registry: Registry, now: () => number = Date.now) {
  const registers = [registry]
  const connected = new Gauge({
    name: 'howdah_broker_connected',
    help: 'Whether the connection to RabbitMQ is up: one publishes, the other consumes',
    labelNames: ['connection'],
    registers,
  })
  const losses = new Counter({
    name: 'howdah_broker_connection_losses_total',
    help: 'Connections to RabbitMQ that were lost; each is made again',
    labelNames: ['connection'],
    registers,
  })
  const published = new Counter({
    name: 'howdah_messages_published_total',
    help: 'Messages published; confirmed: RabbitMQ has them; failed: it refused or returned them, or was away too long',
    labelNames: ['outcome'],
    registers,
  })
  let unconfirmedNow = 0
  new Gauge({
    name: 'howdah_messages_unconfirmed',
    help: 'Messages that RabbitMQ has not confirmed yet, those included that wait for a connection',
    registers,
    collect() {
      this.set(unconfirmedNow)
    },
  })
  const handled = new Counter({
    name: 'howdah_messages_handled_total',
    help: 'Deliveries by queue and message type; redelivered: the handler failed, or they were handed back',
    labelNames: ['queue', 'type', 'outcome'],
    registers,
  })
  const handling = new Histogram({
    name: 'howdah_message_handling_seconds',
    help: 'Time from the arrival of a delivery to its outcome',
    labelNames: ['queue'],
    buckets: HANDLING_BUCKETS,
    registers,
  })
  const age = new Histogram({
    name: 'howdah_message_age_seconds',
    help: "Age of a message when it has been handled, by its sender's clock and in whole seconds",
    labelNames: ['queue'],
    buckets: AGE_BUCKETS,
    registers,
  })
  /** When the deliveries arrived that are not handled yet, oldest first, by queue. */
  const held = new Map<string, Set<{ readonly at: number }>>()
  new Gauge({
    name: 'howdah_oldest_delivery_seconds',
    help: 'How long the oldest delivery has been held that is not handled yet; 0: none is',
    labelNames: ['queue'],
    registers,
    collect() {
      for (const [queue, deliveries] of held) {
        const [oldest] = deliveries
        this.set({ queue }, oldest === undefined ? 0 : Math.max(0, now() - oldest.at) / 1000)
      }
    },
  })
  for (const connection of ['publish', 'consume']) {
    connected.set({ connection }, 0)
    losses.inc({ connection }, 0)
  }
  for (const outcome of ['confirmed', 'failed']) published.inc({ outcome }, 0)

  return {
    connection(connection: 'publish' | 'consume', isConnected: boolean): void {
      connected.set({ connection }, isConnected ? 1 : 0)
      if (!isConnected) losses.inc({ connection })
    },

    publishing(): (confirmed: boolean) => void {
      unconfirmedNow += 1
      return (confirmed) => {
        unconfirmedNow -= 1
        published.inc({ outcome: confirmed ? 'confirmed' : 'failed' })
      }
    },

    received({ queue, type = 'unknown', sentAt }: Received): (outcome: string) => void {
      const delivery = { at: now() }
      const deliveries = held.get(queue) ?? new Set()
      held.set(queue, deliveries.add(delivery))
      return (outcome) => {
        deliveries.delete(delivery)
        handled.inc({ queue, type, outcome })
        handling.observe({ queue }, Math.max(0, now() - delivery.at) / 1000)
        if (sentAt === undefined || outcome === 'redelivered') return
        const seconds = Math.max(0, now() / 1000 - sentAt)
        if (seconds <= OLDEST_BELIEVED) age.observe({ queue }, seconds)
      }
    },
  }
}
