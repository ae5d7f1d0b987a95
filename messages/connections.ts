/**
 * The two connections of a process: it publishes on one and consumes on the other. During an alarm RabbitMQ stops reading
 * from connections that publish; on the other one deliveries are acknowledged and consumers cancelled all the same.
 */
import type { BusObserver } from './bus-observer.ts'
import { type BrokerConnection, type ConnectionOptions, openConnection } from './connection.ts'

export interface BusConnections {
  readonly publish: BrokerConnection
  readonly consume: BrokerConnection
  /** Since when both are connected and RabbitMQ takes messages, in ms since the epoch; undefined while that is not so. */
  readonly openSince: number | undefined
  close(): Promise<void>
}

/** @throws as `openConnection` */
export async function openConnections(
  options: Omit<ConnectionOptions, 'purpose' | 'onChange'>,
  observer: Pick<BusObserver, 'connection'>,
): Promise<BusConnections> {
  const opening = (['publish', 'consume'] as const).map((purpose) =>
    openConnection({
      ...options,
      purpose,
      onChange: (connected) => observer.connection(purpose, connected),
    }),
  )
  const results = await Promise.allSettled(opening)
  const opened = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const [publish, consume] = opened
  if (!publish || !consume) {
    await Promise.all(opened.map((connection) => connection.close()))
    throw results.find((result) => result.status === 'rejected')?.reason
  }
  return {
    publish,
    consume,
    get openSince() {
      const [published, consumed] = [publish.openSince, consume.openSince]
      return published === undefined || consumed === undefined ? undefined : Math.max(published, consumed)
    },
    async close() {
      await Promise.all([publish.close(), consume.close()])
    },
  }
}
