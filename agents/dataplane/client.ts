/**
 * The data plane's client: a `BackupSource` whose bytes come from a mount server. Requests wait while the server is
 * away, are asked again when it is back (all are reads, so asking twice is harmless), and fail past their deadline.
 */
import tls from 'node:tls'
import type { Logger } from 'pino'
import { type ErrorCode, HowdahError } from '../../messages/errors.ts'
import { backoffMs } from './backoff.ts'
import type { BackupSource, TreeEntry } from './backup-source.ts'
import { ClientConnection } from './client-connection.ts'
import { receiveTree } from './client-tree.ts'
import type { Exchange, ExchangeHost } from './exchange.ts'
import {
  decodeError,
  decodeSize,
  encodeEmpty,
  encodeRead,
  encodeWalRead,
  encodeWalSize,
  FRAME,
  isWalName,
  MAX_READ_BYTES,
  malformed,
} from './protocol.ts'

export interface DataPlaneClient extends BackupSource {
  /** Whether a connection is up now. */
  readonly connected: boolean
  /** Why there is none, in words; undefined while connected. */
  readonly lastError: string | undefined
}

export interface DataPlaneClientOptions {
  readonly host: string
  readonly port: number
  readonly ticket: string
  /** Contents of PEM files. */
  readonly tls: {
    readonly ca: string | Buffer
    readonly cert: string | Buffer
    readonly key: string | Buffer
  }
  /** Name of the mount agent, which its certificate must carry; without it the certificate must carry `host`. */
  readonly serverName?: string
  /** TLS connections; default 2, so that a small read need not wait behind a large one. */
  readonly connections?: number
  readonly logger: Logger
  /** How long a request may take, reconnects included; default 60 s. A tree: from one batch to the next. */
  readonly deadlineMs?: number
  /** How often a silent server is asked for a sign of life; at three times that it counts as gone. Default 2.5 s. */
  readonly pingMs?: number
}

/** An answer with one of these is asked for again until the deadline: the repository behind the server is away. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['repository_unavailable', 'timeout'])

/** A certificate of a mount agent carries this name. */
export function mountServerName(agent: string): string {
  return `${agent}.mount.howdah`
}

/**
 * Returns at once and connects in the background. An answer `unauthorized`, `unknown_backup` or `backup_damaged`
 * rejects at once, also what is asked while it stands; everything that can pass is waited for until the deadline,
 * then rejects with `repository_unavailable`.
 * @throws HowdahError `configuration` when the TLS material is unusable
 */
export function connectDataPlane(options: DataPlaneClientOptions): DataPlaneClient {
  return new Client(options)
}

class Client implements DataPlaneClient, ExchangeHost {
  readonly deadlineMs: number
  readonly #logger: Logger
  readonly #connections: ClientConnection[]
  readonly #exchanges = new Map<number, Exchange>()
  readonly #sweep: NodeJS.Timeout
  #lastId = 0
  #lastError: HowdahError | undefined
  /** The server's refusal, while it stands: no connection was made since. */
  #refusal: HowdahError | undefined
  #closed = false

  constructor(options: DataPlaneClientOptions) {
    const { host, port, ticket, serverName, pingMs = 2500 } = options
    this.deadlineMs = options.deadlineMs ?? 60_000
    this.#logger = options.logger
    const secureContext = createSecureContext(options.tls)
    const connectionOptions = {
      host,
      port,
      ticket,
      pingMs,
      secureContext,
      serverName: serverName === undefined ? undefined : mountServerName(serverName),
      onReady: (connection: ClientConnection) => this.#ready(connection),
      onFrame: (connection: ClientConnection, type: number, id: number, payload: Buffer) =>
        this.#frame(connection, type, id, payload),
      onDown: (connection: ClientConnection, error: HowdahError) => this.#down(connection, error),
    }
    this.#connections = Array.from(
      { length: options.connections ?? 2 },
      () => new ClientConnection(connectionOptions),
    )
    // One timer for all deadlines: a timer per request would cost more than the request.
    const sweepMs = Math.max(10, Math.min(1000, this.deadlineMs / 4))
    this.#sweep = setInterval(() => this.#expire(), sweepMs)
  }

  get connected(): boolean {
    return this.#connections.some((connection) => connection.ready)
  }

  get lastError(): string | undefined {
    return this.connected ? undefined : this.#lastError?.message
  }

  tree(): AsyncIterable<readonly TreeEntry[]> {
    return receiveTree(this)
  }

  read(file: number, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#readAll(offset, length, signal, (id, at, bytes) => encodeRead(id, file, at, bytes))
  }

  walRead(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    if (!isWalName(name)) return Promise.reject(new HowdahError('wal_missing', `${name} is no WAL file.`))
    return this.#readAll(offset, length, signal, (id, at, bytes) => encodeWalRead(id, name, at, bytes))
  }

  walSize(name: string): Promise<number | undefined> {
    if (!isWalName(name)) return Promise.resolve(undefined)
    return this.#request(
      0,
      undefined,
      (id) => encodeWalSize(id, name),
      (type, payload) => {
        if (type !== FRAME.size) throw malformed('answer')
        return decodeSize(payload)
      },
    )
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweep)
    for (const connection of this.#connections) connection.close()
    for (const id of [...this.#exchanges.keys()]) this.#fail(id, closedError())
  }

  now(): number {
    return performance.now()
  }

  nextId(): number {
    do {
      this.#lastId = this.#lastId >= 0xffff_ffff ? 1 : this.#lastId + 1
    } while (this.#exchanges.has(this.#lastId))
    return this.#lastId
  }

  start(id: number, exchange: Exchange): void {
    const refusal = this.#closed ? closedError() : this.#refusal
    if (refusal !== undefined) {
      exchange.fail(refusal)
      return
    }
    this.#exchanges.set(id, exchange)
    this.#dispatch(exchange)
  }

  abandon(id: number): void {
    const exchange = this.#exchanges.get(id)
    exchange?.connection?.send(encodeEmpty(FRAME.cancel, id))
    this.#end(id)
  }

  async #readAll(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    encode: (id: number, offset: number, length: number) => Buffer,
  ): Promise<Buffer> {
    const part = (at: number, bytes: number) =>
      this.#request(
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
    cost: number,
    signal: AbortSignal | undefined,
    encode: (id: number) => Buffer,
    decode: (type: number, payload: Buffer) => T,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const id = this.nextId()
      const abort = () => {
        this.abandon(id)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.start(id, {
        frame: encode(id),
        cost,
        deadline: this.now() + this.deadlineMs,
        connection: undefined,
        attempts: 0,
        retry: undefined,
        answer(type, payload) {
          const value = decode(type, payload)
          signal?.removeEventListener('abort', abort)
          resolve(value)
          return true
        },
        fail(error) {
          signal?.removeEventListener('abort', abort)
          reject(error)
        },
      })
    })
  }

  /** Asks over the connection with the least to do; without any the exchange waits for the next that is ready. */
  #dispatch(exchange: Exchange): void {
    let best: ClientConnection | undefined
    for (const connection of this.#connections) {
      if (connection.ready && (best === undefined || connection.load < best.load)) best = connection
    }
    if (best === undefined) return
    exchange.connection = best
    best.load += exchange.cost
    best.send(exchange.frame)
  }

  #frame(connection: ClientConnection, type: number, id: number, payload: Buffer): void {
    const exchange = this.#exchanges.get(id)
    // An answer to what was cancelled, or was meanwhile asked elsewhere.
    if (exchange === undefined || exchange.connection !== connection) return
    if (type === FRAME.error) this.#refused(id, exchange, decodeError(payload))
    else if (exchange.answer(type, payload)) this.#end(id)
  }

  #refused(id: number, exchange: Exchange, error: HowdahError): void {
    if (!PASSING.has(error.code)) {
      this.#fail(id, error)
      return
    }
    this.#lastError = error
    this.#release(exchange)
    exchange.retry = setTimeout(() => {
      exchange.retry = undefined
      this.#dispatch(exchange)
    }, backoffMs(exchange.attempts))
    exchange.attempts += 1
  }

  #ready(connection: ClientConnection): void {
    if (this.#lastError !== undefined) this.#logger.info('data plane: connected')
    this.#lastError = undefined
    this.#refusal = undefined
    connection.load = 0
    for (const exchange of this.#exchanges.values()) {
      if (exchange.connection === undefined && exchange.retry === undefined) this.#dispatch(exchange)
    }
  }

  #down(connection: ClientConnection, error: HowdahError): void {
    if (this.#lastError?.message !== error.message) {
      this.#logger.warn({ code: error.code, reason: error.message }, 'data plane: not connected')
    }
    this.#lastError = error
    connection.load = 0
    for (const exchange of this.#exchanges.values()) {
      if (exchange.connection !== connection) continue
      exchange.connection = undefined
      this.#dispatch(exchange)
    }
    if (PASSING.has(error.code) || this.connected) return
    this.#refusal = error
    for (const id of [...this.#exchanges.keys()]) this.#fail(id, error)
  }

  #expire(): void {
    const now = this.now()
    for (const [id, exchange] of this.#exchanges) {
      if (exchange.deadline > now) continue
      exchange.connection?.send(encodeEmpty(FRAME.cancel, id))
      const reason = this.#lastError?.message ?? 'The mount server did not answer.'
      this.#fail(
        id,
        new HowdahError(
          'repository_unavailable',
          `A read of the backup was given up after ${this.deadlineMs / 1000} s. ${reason}`,
          { cause: this.#lastError },
        ),
      )
    }
  }

  #fail(id: number, error: Error): void {
    const exchange = this.#exchanges.get(id)
    this.#end(id)
    exchange?.fail(error)
  }

  #end(id: number): void {
    const exchange = this.#exchanges.get(id)
    if (exchange === undefined) return
    this.#exchanges.delete(id)
    this.#release(exchange)
    if (exchange.retry !== undefined) clearTimeout(exchange.retry)
  }

  #release(exchange: Exchange): void {
    if (exchange.connection !== undefined) exchange.connection.load -= exchange.cost
    exchange.connection = undefined
  }
}

function createSecureContext({ ca, cert, key }: DataPlaneClientOptions['tls']): tls.SecureContext {
  try {
    return tls.createSecureContext({ ca, cert, key, minVersion: 'TLSv1.3' })
  } catch (cause) {
    throw new HowdahError('configuration', 'The data plane cannot use its certificate or key.', { cause })
  }
}

function closedError(): HowdahError {
  return new HowdahError('repository_unavailable', 'The connection to the mount server was closed.')
}
