/**
 * The orderly end of a bus: consumers are closed, confirms are waited for, and then the connections are closed. Every part
 * has a deadline. While nothing can be published, because of an alarm or without a connection, what waits for that is
 * abandoned at once, so that handlers end.
 */
import { once } from 'node:events'
import type { BusConnections } from './connections.ts'
import type { Consumers } from './consumers.ts'
import type { Publishing } from './publishing.ts'
import type { Requests } from './requests.ts'
import { atMost } from './wait.ts'

/** Deadline for handlers and confirms together; then what still waits is abandoned. */
const FINISH_MS = 15_000
const DRAIN_MS = 5_000
/** Deadline for consumers after that. */
const CONSUMERS_MS = 3_000

export interface BusParts {
  readonly connections: BusConnections
  readonly publishing: Publishing
  readonly requests: Requests
  readonly consumers: Consumers
  /** Its signal stops everything that reopens channels. */
  readonly ended: AbortController
}

/** Rejects what still waits with `broker_unavailable`. Never rejects itself for a broker that does not answer. */
export async function shutDown(parts: BusParts): Promise<void> {
  const { connections, publishing, requests, consumers, ended } = parts
  const { publish } = connections
  const consumersClosed = consumers.close()
  if (publish.openSince !== undefined) {
    const settled = new AbortController()
    const { signal } = settled
    const away = ['blocked', 'disconnect'].map((event) =>
      once(publish.events, event, { signal }).catch(() => undefined),
    )
    const finished = consumersClosed.then(() => (signal.aborted ? undefined : publishing.drain(DRAIN_MS)))
    await atMost(FINISH_MS, Promise.race([finished, ...away]))
    settled.abort()
  }
  requests.close()
  publishing.close()
  await atMost(CONSUMERS_MS, consumersClosed)
  ended.abort()
  await connections.close()
}
