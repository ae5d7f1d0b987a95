/**
 * Writes the audit stream. It has a connection of its own: a stream that RabbitMQ cannot have or does not confirm holds up
 * nothing else that the process sends. Connects with the first entry, and declares the stream on each new channel.
 */
import type { Logger } from 'pino'
import { AUDIT_ENTRIES, type AuditEntry } from './audit.ts'
import { type BrokerUrl, brokerUser } from './broker-address.ts'
import { UNOBSERVED } from './bus-observer.ts'
import { type BrokerConnection, type BusTls, connectionOutage, openConnection } from './connection.ts'
import { declareExchanges, declareQueue } from './declare.ts'
import { encodeBody, messageProperties } from './envelope.ts'
import type { Publication } from './publication.ts'
import { createPublishing, type Publishing } from './publishing.ts'
import { AUDIT, AUDIT_EXCHANGE, sessionEventRoutingKey } from './topology.ts'
import { atMost } from './wait.ts'

export interface AuditLog {
  /** Resolves when RabbitMQ has confirmed all of them, without those that the contract does not allow. @throws HowdahError `broker_unavailable` | `unroutable` | `timeout` | `configuration` */
  append(entries: readonly AuditEntry[]): Promise<void>
  close(): Promise<void>
}

export interface AuditLogOptions {
  readonly url: BrokerUrl
  readonly tls?: BusTls
  readonly appId: string
  /** In the RabbitMQ console. */
  readonly name: string
  readonly version: string
  readonly logger: Logger
}

const CONNECT_MS = 10_000
const CONFIRM_MS = 30_000
const DRAIN_MS = 1_000
/** A connection that is being opened is not waited for. */
const CLOSE_MS = 4_000

interface Open {
  readonly connection: BrokerConnection
  readonly publishing: Publishing
}

export function createAuditLog(options: AuditLogOptions): AuditLog {
  const { url, tls, appId, name, version, logger } = options
  const ended = new AbortController()
  const outage = connectionOutage(logger)
  let opening: Promise<Open> | undefined

  async function open(): Promise<Open> {
    const connection = await openConnection({
      ...{ url, tls, logger, outage, waitMs: CONNECT_MS },
      ...{ shownAs: { name, version }, purpose: 'audit' },
    })
    const publishing = createPublishing({
      ...{ connection, ended: ended.signal, observer: UNOBSERVED, logger },
      userId: brokerUser(url, tls?.user),
      async setUp(channel) {
        await declareExchanges(channel)
        await declareQueue(channel, AUDIT)
      },
      onOpen() {},
    })
    connection.events.on('unblocked', () => publishing.resume())
    return { connection, publishing }
  }

  async function opened(): Promise<Open> {
    opening ??= open()
    try {
      return await opening
    } catch (error) {
      opening = undefined
      throw error
    }
  }

  async function closeAll({ publishing, connection }: Open): Promise<void> {
    await publishing.drain(DRAIN_MS)
    publishing.close()
    ended.abort()
    await connection.close()
  }

  /** Undefined: the contract does not allow it, today or tomorrow, and it must not hold up those behind it. */
  function publicationOf(entry: AuditEntry): Publication | undefined {
    const { type, body } = entry
    try {
      return {
        exchange: AUDIT_EXCHANGE.name,
        routingKey: routingKey(entry),
        content: encodeBody(AUDIT_ENTRIES[type].body, type, body),
        options: messageProperties({ type, body, messageId: body.id, appId }),
        unroutable: `no queue takes the entries of the audit stream: ${AUDIT.name} is missing, or not bound`,
        timeoutMs: CONFIRM_MS,
      }
    } catch (error) {
      logger.error({ err: error, type, id: body.id }, 'an entry of the audit stream can never be written')
      return undefined
    }
  }

  return {
    async append(entries) {
      const { publishing } = await opened()
      const publications = entries.flatMap((entry) => publicationOf(entry) ?? [])
      await Promise.all(publications.map((publication) => publishing.publish(publication)))
    },
    async close() {
      const closing = opening?.then(closeAll, () => {})
      if (closing) await atMost(CLOSE_MS, closing)
    },
  }
}

/** That of the command, or of the event that told of the change. */
function routingKey({ type, body }: AuditEntry): string {
  return type === 'audit.command' ? body.command : sessionEventRoutingKey('session.state', body.session)
}
