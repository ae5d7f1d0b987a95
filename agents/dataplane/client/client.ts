/**
 * Owns the data plane's client: a `BackupSource` whose bytes come from a mount server. A call becomes an exchange in the
 * `ExchangeTable`, which sends it over one of its connections and repeats it after a reconnect. Must not touch what the
 * server does with a request.
 */
import type { SecureContext } from 'node:tls'
import type { Logger } from 'pino'
import { mountServerName } from '../../../messages/certified.ts'
import { HowdahError } from '../../../messages/errors.ts'
import type {
  BackupSource,
  DamagedBlockListener,
  FileRange,
  RangeData,
  StoredWal,
  TreeEntry,
} from '../backup-source.ts'
import { FRAME, MAX_READ_BYTES, malformed } from '../protocol/protocol.ts'
import {
  decodeSize,
  decodeStored,
  encodeRead,
  encodeWalName,
  encodeWalRead,
  isWalName,
} from '../protocol/read-codec.ts'
import { ExchangeTable } from './exchange-table.ts'
import { type DataPlaneObserver, UNOBSERVED } from './observer.ts'
import { receiveRanges } from './ranges.ts'
import { receiveTree } from './tree.ts'

export interface DataPlaneClient extends BackupSource {
  /** Whether a connection is up now. */
  readonly connected: boolean
  /** Why there is none, for a person; undefined while connected. */
  readonly lastError: string | undefined
  /** When the server was last connected to after an absence; milliseconds since the epoch. */
  readonly connectedAt: number | undefined
  /** Since when the server is known to be unreachable; milliseconds since the epoch. */
  readonly lostAt: number | undefined
  /** Requests that wait for their answers, also while there is no connection. */
  readonly inFlight: number
}

export interface DataPlaneClientOptions {
  readonly host: string
  readonly port: number
  readonly ticket: string
  /** Of `TLS_VERSIONS`, with our certificate; used by each new connection. */
  readonly secureContext: SecureContext
  /** Name of the mount agent, which its certificate must carry; without it the certificate must carry `host`. */
  readonly serverName?: string
  /** TLS connections; default 2, so that a small read does not wait behind a large one. */
  readonly connections?: number
  readonly logger: Logger
  /** How long a request may take, reconnects included; default 60 s. Of a tree: from one batch to the next. */
  readonly deadlineMs?: number
  /** How often a silent server is pinged; after three times that it counts as lost. Default 2.5 s. */
  readonly pingMs?: number
  /** Default: nobody counts. */
  readonly observer?: DataPlaneObserver
}

/**
 * Returns at once and connects in the background. An answer `unauthorized`, `unknown_backup` or `backup_damaged`
 * rejects at once, and so does every request until a connection succeeds; a transient error is retried until the
 * deadline, then rejects with `repository_unavailable`.
 */
export function connectDataPlane(options: DataPlaneClientOptions): DataPlaneClient {
  return new Client(options)
}

class Client implements DataPlaneClient {
  readonly #exchanges: ExchangeTable
  readonly #observer: DataPlaneObserver

  constructor(options: DataPlaneClientOptions) {
    const { host, port, ticket, serverName, logger, connections = 2, deadlineMs = 60_000 } = options
    this.#observer = options.observer ?? UNOBSERVED
    this.#exchanges = new ExchangeTable({
      host,
      port,
      ticket,
      serverName: serverName === undefined ? undefined : mountServerName(serverName),
      secureContext: options.secureContext,
      pingMs: options.pingMs ?? 2500,
      connections,
      deadlineMs,
      onLost: () => this.#observer.lost(),
      logger,
    })
  }

  get connected(): boolean {
    return this.#exchanges.connected
  }

  get lastError(): string | undefined {
    return this.connected ? undefined : this.#exchanges.lastError?.message
  }

  get connectedAt(): number | undefined {
    return this.#exchanges.connectedAt
  }

  get lostAt(): number | undefined {
    return this.#exchanges.lostAt
  }

  get inFlight(): number {
    return this.#exchanges.size
  }

  tree(): AsyncIterable<readonly TreeEntry[]> {
    return this.#observed('tree', receiveTree(this.#exchanges), () => 0)
  }

  read(file: number, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#readAll('read', offset, length, signal, (id, at, bytes) => encodeRead(id, file, at, bytes))
  }

  readMany(ranges: readonly FileRange[], signal?: AbortSignal): AsyncIterable<RangeData> {
    return this.#observed('ranges', receiveRanges(this.#exchanges, ranges, signal), ({ data }) => data.length)
  }

  onDamagedBlock(listener: DamagedBlockListener): () => void {
    return this.#exchanges.onDamagedBlock(listener)
  }

  walRead(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#walRead(FRAME.walRead, name, offset, length, signal)
  }

  walReadStored(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#walRead(FRAME.walReadStored, name, offset, length, signal)
  }

  walSize(name: string): Promise<number | undefined> {
    if (!isWalName(name)) return Promise.resolve(undefined)
    return this.#request(
      'wal',
      0,
      undefined,
      (id) => encodeWalName(FRAME.walSize, id, name),
      (type, payload) => {
        if (type !== FRAME.size) throw malformed('answer')
        return decodeSize(payload)
      },
    )
  }

  walStored(name: string): Promise<StoredWal | undefined> {
    if (!isWalName(name)) return Promise.resolve(undefined)
    return this.#request(
      'wal',
      0,
      undefined,
      (id) => encodeWalName(FRAME.walStored, id, name),
      (type, payload) => {
        if (type !== FRAME.stored) throw malformed('answer')
        return decodeStored(payload)
      },
    )
  }

  async close(): Promise<void> {
    this.#exchanges.close()
  }

  #walRead(
    type: typeof FRAME.walRead | typeof FRAME.walReadStored,
    name: string,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    if (!isWalName(name)) return Promise.reject(new HowdahError('wal_missing', `${name} is no WAL file.`))
    return this.#readAll('wal', offset, length, signal, (id, at, bytes) =>
      encodeWalRead(type, id, { name, offset: at, length: bytes }),
    )
  }

  async #readAll(
    request: 'read' | 'wal',
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    encode: (id: number, offset: number, length: number) => Buffer,
  ): Promise<Buffer> {
    const part = (at: number, bytes: number) =>
      this.#request(
        request,
        bytes,
        signal,
        (id) => encode(id, at, bytes),
        (type, payload) => {
          if (type !== FRAME.data || payload.length > bytes) throw malformed('answer')
          return payload
        },
      )
    if (length <= MAX_READ_BYTES) return part(offset, length)
    const parts: Promise<Buffer>[] = []
    for (let done = 0; done < length; done += MAX_READ_BYTES) {
      parts.push(part(offset + done, Math.min(MAX_READ_BYTES, length - done)))
    }
    return Buffer.concat(await Promise.all(parts))
  }

  #request<T>(
    request: 'read' | 'wal',
    cost: number,
    signal: AbortSignal | undefined,
    encode: (id: number) => Buffer,
    decode: (type: number, payload: Buffer) => T,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const exchanges = this.#exchanges
      const id = exchanges.nextId()
      const observer = this.#observer
      const startedAt = exchanges.now()
      const frame = encode(id)
      const abort = () => {
        exchanges.abandon(id)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      exchanges.start(id, {
        frame,
        cost,
        deadline: exchanges.now() + exchanges.deadlineMs,
        connection: undefined,
        attempts: 0,
        retry: undefined,
        reason: undefined,
        answer(type, payload) {
          const value = decode(type, payload)
          signal?.removeEventListener('abort', abort)
          observer.ended(request, exchanges.now() - startedAt, payload.length)
          resolve(value)
          return true
        },
        fail(error) {
          signal?.removeEventListener('abort', abort)
          observer.failed()
          reject(error)
        },
      })
    })
  }

  /** Counts a stream when its caller has received all of it; one that the caller leaves has not failed. */
  async *#observed<T>(
    request: 'ranges' | 'tree',
    items: AsyncIterable<T>,
    bytesOf: (item: T) => number,
  ): AsyncGenerator<T> {
    const startedAt = this.#exchanges.now()
    let bytes = 0
    try {
      for await (const item of items) {
        bytes += bytesOf(item)
        yield item
      }
    } catch (error) {
      if (error instanceof HowdahError) this.#observer.failed()
      throw error
    }
    this.#observer.ended(request, this.#exchanges.now() - startedAt, bytes)
  }
}
