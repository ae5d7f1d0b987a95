/**
 * The orderly end of a bus: consumers are closed, confirms are waited for, and then the connection is closed. Every part
 * has a deadline, and while RabbitMQ takes no messages none of it is waited for.
 */
import { once } from 'node:events'
import type { BrokerConnection } from './connection.ts'
import type { Consumers } from './consumers.ts'
import type { Publisher } from './publisher.ts'
import type { RecoveringChannel } from './recovering-channel.ts'
import type { Requests } from './requests.ts'
import { atMost } from './wait.ts'

/** Deadline for handlers and confirms together; then the connection is closed all the same. */
const DEADLINE_MS = 18_000
const DRAIN_MS = 5_000

export interface BusParts {
  readonly connection: BrokerConnection
  readonly publishing: RecoveringChannel
  readonly publisher: Publisher
  readonly requests: Requests
  readonly consumers: Consumers
  /** Its signal stops everything that reopens channels. */
  readonly ended: AbortController
}

/** Rejects what still waits with `broker_unavailable`. Never rejects itself for a broker that does not answer. */
export async function shutDown(parts: BusParts): Promise<void> {
  const { connection, publishing, publisher, requests, ended } = parts
  const isBlocked = (): boolean => connection.alarm.reason !== undefined
  if (!isBlocked()) {
    const settled = new AbortController()
    const blocked = once(connection.model, 'blocked', { signal: settled.signal }).catch(() => undefined)
    await atMost(DEADLINE_MS, Promise.race([finishWork(parts), blocked]))
    settled.abort()
  }
  requests.close()
  publisher.close()
  ended.abort()
  if (!isBlocked()) await publishing.close()
  await connection.close()
}

async function finishWork({ connection, publishing, publisher, consumers }: BusParts): Promise<void> {
  await consumers.close()
  if (publishing.current !== undefined && connection.openSince !== undefined) await publisher.drain(DRAIN_MS)
}
