/**
 * The connection of an operator, who works on queues themselves and not by the contract: reads the audit stream, and looks
 * after dead letters.
 */
import type { Logger } from 'pino'
import { type AuditReading, readAudit } from './audit-reader.ts'
import { type BrokerUrl, brokerUser } from './broker-address.ts'
import { UNOBSERVED } from './bus-observer.ts'
import { type BusTls, openConnection } from './connection.ts'
import { consumerTag } from './console-name.ts'
import { createDeadLetters, type DeadLetters } from './dead-letters.ts'
import { createPublishing } from './publishing.ts'

/** Closed where `await using` leaves its block. */
export interface OperatorConnection extends AsyncDisposable {
  readonly deadLetters: DeadLetters
  /** As `readAudit`. */
  readAudit(reading: AuditReading): Promise<void>
}

export interface OperatorConnectionOptions {
  readonly url: BrokerUrl
  readonly tls?: BusTls
  /** In the RabbitMQ console. */
  readonly name: string
  readonly version: string
  readonly logger: Logger
}

const CONNECT_MS = 10_000

/** @throws HowdahError `broker_unavailable` | `configuration` */
export async function connectOperator(options: OperatorConnectionOptions): Promise<OperatorConnection> {
  const { url, tls, name, version, logger } = options
  const shownAs = { name, version }
  const tag = consumerTag(shownAs)
  const ended = new AbortController()
  const connection = await openConnection({
    ...{ url, tls, logger, shownAs, purpose: 'operator', waitMs: CONNECT_MS },
  })
  const publishing = createPublishing({
    ...{ connection, ended: ended.signal, observer: UNOBSERVED, logger },
    userId: brokerUser(url, tls?.user),
    setUp: async () => {},
    onOpen() {},
  })
  return {
    deadLetters: createDeadLetters({ connection, publishing, tag }),
    readAudit: (reading) => readAudit({ connection, tag, logger }, reading),
    async [Symbol.asyncDispose]() {
      publishing.close()
      ended.abort()
      await connection.close()
    },
  }
}
