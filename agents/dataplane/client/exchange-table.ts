/**
 * Owns the outstanding requests of the data plane's client, over one or a few connections. Requests wait while the
 * server is unreachable, are sent again after a reconnect (all are reads, so repeating one is harmless), and fail at
 * their deadline.
 */
import type { Logger } from 'pino'
import { backoffMs } from '../../../messages/backoff.ts'
import { type ErrorCode, HowdahError } from '../../../messages/errors.ts'
import type { DamagedBlockListener } from '../backup-source.ts'
import { decodeDamagedBlock, decodeError, encodeEmpty, FRAME } from '../protocol/protocol.ts'
import { ClientConnection, type ClientConnectionOptions, RECONNECT } from './connection.ts'
import type { Exchange, ExchangeHost } from './exchange.ts'

export interface ExchangeTableOptions
  extends Omit<ClientConnectionOptions, 'onReady' | 'onFrame' | 'onDown'> {
  readonly connections: number
  readonly deadlineMs: number
  /** The last connection was lost. */
  readonly onLost: () => void
  readonly logger: Logger
}

/** A request that fails with one of these is retried until its deadline: the repository may be unavailable for a while. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set(['repository_unavailable', 'timeout'])

export class ExchangeTable implements ExchangeHost {
  readonly deadlineMs: number
  readonly #onLost: () => void
  readonly #logger: Logger
  readonly #connections: ClientConnection[]
  readonly #exchanges = new Map<number, Exchange>()
  readonly #sweep: NodeJS.Timeout
  readonly #damageListeners = new Set<DamagedBlockListener>()
  #lastId = 0
  #lastError: HowdahError | undefined
  /** The server's refusal, until a connection succeeds. */
  #refusal: HowdahError | undefined
  #connectedAt: number | undefined
  #lostAt: number | undefined
  #closed = false

  constructor({ connections, deadlineMs, onLost, logger, ...connection }: ExchangeTableOptions) {
    this.deadlineMs = deadlineMs
    this.#onLost = onLost
    this.#logger = logger
    const options: ClientConnectionOptions = {
      ...connection,
      onReady: (from) => this.#ready(from),
      onFrame: (from, type, id, payload) => this.#frame(from, type, id, payload),
      onDown: (from, error) => this.#down(from, error),
    }
    this.#connections = Array.from({ length: connections }, () => new ClientConnection(options))
    // One timer for all deadlines: a timer per request would cost more than the request.
    this.#sweep = setInterval(() => this.#expire(), Math.max(10, Math.min(1000, deadlineMs / 4)))
  }

  get connected(): boolean {
    return this.#connections.some((connection) => connection.ready)
  }

  /** Why a connection was lost or could not be made; undefined once one succeeded. */
  get lastError(): HowdahError | undefined {
    return this.#lastError
  }

  /** As `DataPlaneClient.connectedAt`. */
  get connectedAt(): number | undefined {
    return this.#connectedAt
  }

  /** As `DataPlaneClient.lostAt`. */
  get lostAt(): number | undefined {
    return this.#lostAt
  }

  /** As `DataPlaneClient.inFlight`. */
  get size(): number {
    return this.#exchanges.size
  }

  /** Closes the connections; outstanding requests fail. */
  close(): void {
    this.#closed = true
    clearInterval(this.#sweep)
    for (const connection of this.#connections) connection.close()
    for (const id of [...this.#exchanges.keys()]) this.#fail(id, closedError())
  }

  /** As `BackupSource.onDamagedBlock`. */
  onDamagedBlock(listener: DamagedBlockListener): () => void {
    this.#damageListeners.add(listener)
    return () => void this.#damageListeners.delete(listener)
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

  /** Sends the request over the connection with the least load; without any, it waits for the next that is ready. */
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
    if (type === FRAME.damagedBlock) {
      const { file, block } = decodeDamagedBlock(payload)
      for (const listener of this.#damageListeners) listener(file, block)
      return
    }
    const exchange = this.#exchanges.get(id)
    // An answer to a request that was cancelled, or was meanwhile sent over another connection.
    if (exchange === undefined || exchange.connection !== connection) return
    if (type === FRAME.error) this.#retryOrFail(id, exchange, decodeError(payload))
    else if (exchange.answer(type, payload)) this.#end(id)
  }

  #retryOrFail(id: number, exchange: Exchange, error: HowdahError): void {
    if (!TRANSIENT.has(error.code)) {
      this.#fail(id, error)
      return
    }
    exchange.reason = error
    this.#release(exchange)
    exchange.retry = setTimeout(
      () => {
        exchange.retry = undefined
        this.#dispatch(exchange)
      },
      backoffMs(exchange.attempts + 1, RECONNECT),
    )
    exchange.attempts += 1
  }

  #ready(connection: ClientConnection): void {
    if (this.#lastError !== undefined) this.#logger.info('data plane: connected')
    this.#lastError = undefined
    this.#refusal = undefined
    if (this.#lostAt !== undefined || this.#connectedAt === undefined) this.#connectedAt = Date.now()
    this.#lostAt = undefined
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
    if (!this.connected && this.#lostAt === undefined) {
      this.#lostAt = Date.now()
      this.#onLost()
    }
    connection.load = 0
    for (const exchange of this.#exchanges.values()) {
      if (exchange.connection !== connection) continue
      exchange.connection = undefined
      this.#dispatch(exchange)
    }
    if (TRANSIENT.has(error.code) || this.connected) return
    this.#refusal = error
    for (const id of [...this.#exchanges.keys()]) this.#fail(id, error)
  }

  #expire(): void {
    const now = this.now()
    for (const [id, exchange] of this.#exchanges) {
      if (exchange.deadline > now) continue
      exchange.connection?.send(encodeEmpty(FRAME.cancel, id))
      const reason = this.connected ? exchange.reason : this.#lastError
      this.#fail(
        id,
        new HowdahError(
          'repository_unavailable',
          `A read of the backup failed after ${this.deadlineMs / 1000} s. ${reason?.message ?? 'The mount server did not answer.'}`,
          { cause: reason },
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

function closedError(): HowdahError {
  return new HowdahError('repository_unavailable', 'The connection to the mount server was closed.')
}
