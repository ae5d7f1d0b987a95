/** What has to work for a coordinator to be ready. One that stands by is ready: it takes over by itself. */
import type { Monitor } from '../../config/monitoring/monitor.ts'
import type { Bus } from '../../messages/bus.ts'
import type { Leadership } from '../leadership.ts'
import type { Store } from '../store/store.ts'

export interface CoordinatorParts {
  readonly bus: Pick<Bus, 'connectedSince'>
  readonly store: Pick<Store, 'sessionCounts'>
  /** Undefined until it is opened. */
  readonly leadership: () => Pick<Leadership, 'isConsuming'> | undefined
}

export function checkCoordinator(monitor: Monitor, { bus, store, leadership }: CoordinatorParts): void {
  monitor.check('broker', () =>
    bus.connectedSince === undefined
      ? 'there is no connection to RabbitMQ, or an alarm keeps it from taking messages'
      : undefined,
  )
  monitor.check('store', async () => {
    await store.sessionCounts()
    return undefined
  })
  monitor.check('queues', () =>
    leadership()?.isConsuming === false
      ? 'it is the active coordinator, and does not consume its queues'
      : undefined,
  )
}
