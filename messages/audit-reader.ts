/**
 * Reads the audit stream from its beginning or from a time, up to what is in it now or for as long as it is wanted. Owns
 * its channels; after a reconnect it goes on behind the entry that it had last. Nothing is removed by reading.
 * Source: https://www.rabbitmq.com/docs/streams (offsets and their specification by x-stream-offset)
 */
import type { ConfirmChannel, ConsumeMessage } from 'amqplib'
import type { Logger } from 'pino'
import { amqpFailure } from './amqp-failure.ts'
import { AUDIT_ENTRIES, type AuditEntry } from './audit.ts'
import type { Channels } from './channels.ts'
import { HowdahError } from './errors.ts'
import { parseJson } from './json.ts'
import { createRecoveringChannel } from './recovering-channel.ts'
import { AUDIT } from './topology.ts'
import { abortError } from './wait.ts'

export interface AuditReading {
  /** Entries of this time and later. Default: all that are kept. */
  readonly since?: Date | undefined
  /** Goes on with what is written from now on, until `signal` aborts. */
  readonly follow: boolean
  readonly signal: AbortSignal
  /** Called in the order of the stream, once for each entry, however often it was written. The next waits for it. */
  onEntry(entry: AuditEntry): void | Promise<void>
  /** Called first, if what was asked for is not complete: entries before this time were removed, by age or size. */
  onRemoved(before: Date): void
}

export interface AuditReaderOptions {
  readonly connection: Channels
  /** Of the consumer. */
  readonly tag: string
  readonly logger: Logger
}

/** A place in the stream: RabbitMQ begins with the segment that has it. */
type Offset = 'first' | 'last' | number | { readonly '!': 'timestamp'; readonly value: number }

const PREFETCH = 500
const ACKNOWLEDGED_TOGETHER = 100
/** The last segment has arrived when nothing came for so long. */
const QUIET_MS = 1_000
/** A queue that says that it has messages delivers one in this time; what it says lags behind by some seconds. */
const FIRST_MS = { empty: 2_000, filled: 20_000 }
const STALLED_MS = 60_000
/** How much earlier than asked for to begin: clocks differ, and an entry may have waited before it was written. */
const EARLIER_MS = 600_000
/** Ids of entries that were seen lately: what is written twice is written twice soon. */
const REMEMBERED = 10_000

/** @throws HowdahError `unroutable` when there is no stream, `configuration` without the permission to read it, `timeout` when it stalls */
export async function readAudit(options: AuditReaderOptions, reading: AuditReading): Promise<void> {
  const { connection, tag } = options
  const { since, follow, signal, onRemoved } = reading
  const isFilled = await requireStream(connection)
  const patience = isFilled ? FIRST_MS.filled : FIRST_MS.empty
  const look = (from: Offset, quietMs: number) => peek({ connection, tag, from, patience, quietMs, signal })
  const oldest = await look('first', 0)
  if (oldest && oldest.offset > 0) {
    const begins = new Date(oldest.entry?.body.at ?? 0)
    if (since === undefined || since < begins) onRemoved(begins)
  }
  const newest = oldest && !follow ? await look('last', QUIET_MS) : undefined
  if (!follow && !newest) return
  if (newest?.entry && since && new Date(newest.entry.body.at) < since) return
  const from = since
    ? ({ '!': 'timestamp', value: Math.floor((since.getTime() - EARLIER_MS) / 1000) } as const)
    : 'first'
  await consume(options, reading, from, newest?.offset)
}

/** @returns whether RabbitMQ counts messages in it */
async function requireStream(connection: Channels): Promise<boolean> {
  const channel = await connection.openChannel()
  channel.on('error', () => {}) // the call rejects
  try {
    const { messageCount } = await channel.checkQueue(AUDIT.name)
    await channel.close()
    return messageCount > 0
  } catch (error) {
    const failure = amqpFailure(error, `find the stream ${AUDIT.name}`)
    if (failure.code !== 'unroutable') throw failure
    throw new HowdahError(
      'unroutable',
      `there is no stream ${AUDIT.name} on this broker: no coordinator has written one; its log says why if it could not`,
      { cause: error },
    )
  }
}

interface Peek {
  readonly connection: Channels
  readonly tag: string
  readonly from: Offset
  /** How long to wait for the first message, and for each further one. */
  readonly patience: number
  readonly quietMs: number
  readonly signal: AbortSignal
}

interface Place {
  readonly offset: number
  /** Undefined: it is none of ours. */
  readonly entry: AuditEntry | undefined
}

/** The first message from there, or with `quietMs` the last that comes. Undefined: none came. */
async function peek({ connection, tag, from, patience, quietMs, signal }: Peek): Promise<Place | undefined> {
  const channel = await connection.openChannel()
  const over = Promise.withResolvers<void>()
  const fail = (error: unknown): void => over.reject(amqpFailure(error, `read ${AUDIT.name}`))
  const onAbort = (): void => over.reject(abortError(signal))
  let timer = setTimeout(over.resolve, patience)
  let found: Place | undefined
  channel.on('error', fail)
  signal.addEventListener('abort', onAbort)
  if (signal.aborted) onAbort()
  const deliver = (message: ConsumeMessage | null): void => {
    if (message === null || (found && quietMs === 0)) return
    found = placeOf(message)
    clearTimeout(timer)
    timer = setTimeout(over.resolve, quietMs)
    acknowledge(channel, message)
  }
  try {
    start(channel, { tag, from, deliver }).catch(fail)
    await over.promise
    return found
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    await channel.close().catch(() => {})
  }
}

/** @param until the offset behind which there is nothing to wait for; undefined: it goes on */
async function consume(
  { connection, tag, logger }: AuditReaderOptions,
  { since, signal, onEntry }: AuditReading,
  from: Offset,
  until: number | undefined,
): Promise<void> {
  const ended = new AbortController()
  const done = Promise.withResolvers<void>()
  const seen = createSeen()
  let next: Offset = from
  let work: Promise<void> = Promise.resolve()
  let stalled: NodeJS.Timeout | undefined

  async function take(channel: ConfirmChannel, message: ConsumeMessage): Promise<void> {
    const { offset, entry } = placeOf(message)
    if (message.fields.deliveryTag % ACKNOWLEDGED_TOGETHER === 0) acknowledge(channel, message)
    // Of a segment that begins earlier, or once more after a reconnect.
    if (typeof next === 'number' && offset < next) return
    if (entry && !(since && new Date(entry.body.at) < since) && seen.isNew(entry.body.id))
      await onEntry(entry)
    next = offset + 1
    stalled?.refresh()
    if (until !== undefined && offset >= until) done.resolve()
  }

  const channel = createRecoveringChannel({
    ...{ connection, ended: ended.signal, purpose: `read ${AUDIT.name}`, logger },
    async setUp(opened) {
      const deliver = (message: ConsumeMessage | null): void => {
        if (message === null) {
          channel.reopen() // the stream was deleted, or lost its leader
          return
        }
        work = work.then(() => take(opened, message)).catch(done.reject)
      }
      await start(opened, { tag, from: next, deliver })
    },
  })
  const onAbort = (): void => done.reject(abortError(signal))
  signal.addEventListener('abort', onAbort)
  if (signal.aborted) onAbort()
  if (until !== undefined) {
    const text = `the stream ${AUDIT.name} delivers nothing for ${STALLED_MS / 1000} s, although it has more`
    stalled = setTimeout(() => done.reject(new HowdahError('timeout', text)), STALLED_MS)
  }
  try {
    channel.opened.catch(done.reject)
    await done.promise
  } finally {
    clearTimeout(stalled)
    signal.removeEventListener('abort', onAbort)
    ended.abort()
    await channel.close()
  }
}

interface Start {
  readonly tag: string
  readonly from: Offset
  deliver(message: ConsumeMessage | null): void
}

async function start(channel: ConfirmChannel, { tag, from, deliver }: Start): Promise<void> {
  await channel.prefetch(PREFETCH)
  await channel.consume(AUDIT.name, deliver, { consumerTag: tag, arguments: { 'x-stream-offset': from } })
}

/** With all before it. The channel may have gone: RabbitMQ delivers again then. */
function acknowledge(channel: ConfirmChannel, message: ConsumeMessage): void {
  try {
    channel.ack(message, true)
  } catch {
    // It has gone.
  }
}

function placeOf({ properties, content }: ConsumeMessage): Place {
  const offset = Number(properties.headers?.['x-stream-offset'])
  const type: unknown = properties.type
  const definition = Object.entries(AUDIT_ENTRIES).find(([known]) => known === type)?.[1]
  const body = definition?.body.safeParse(parseJson(content)?.value)
  return { offset, entry: body?.success ? ({ type, body: body.data } as AuditEntry) : undefined }
}

function createSeen(): { isNew(id: string): boolean } {
  const ids = new Set<string>()
  return {
    isNew(id) {
      if (ids.has(id)) return false
      ids.add(id)
      const [oldest] = ids
      if (ids.size > REMEMBERED && oldest !== undefined) ids.delete(oldest)
      return true
    },
  }
}
