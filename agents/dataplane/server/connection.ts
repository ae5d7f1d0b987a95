/**
 * Owns one connection of the data plane's server: handshake, requests, answers, and the limits that keep one peer from
 * taking more than its share. A peer that violates the protocol loses its connection, and nothing else happens.
 */
import type { TLSSocket } from 'node:tls'
import type { Logger } from 'pino'
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { BackupSource } from '../backup-source.ts'
import { FrameParser, FrameWriter } from '../protocol/frames.ts'
import {
  CLIENT_FRAMES,
  DAMAGED_BLOCK_VERSION,
  decodeCredit,
  decodeHello,
  decodeTree,
  encodeDamagedBlock,
  encodeEmpty,
  encodeError,
  encodeWelcome,
  FRAME,
  malformed,
  NO_REQUEST,
  OLDEST_VERSION,
  PROTOCOL_VERSION,
} from '../protocol/protocol.ts'
import { decodeReadMany } from '../protocol/ranges-codec.ts'
import type { Ticket } from '../protocol/ticket.ts'
import type { BackupLease, BackupPool } from './backup-pool.ts'
import type { ServedObserver } from './observer.ts'
import { sendRanges } from './ranges.ts'
import { decodeRequest } from './request.ts'
import { RequestTable } from './requests.ts'
import { StreamGate, StreamTable } from './stream.ts'
import { sendTree } from './tree.ts'

/** Limits of one connection. */
export interface ConnectionLimits {
  /** How long the first frame may take, ms. */
  readonly helloMs: number
  /** A connection without traffic for that long is closed, ms. */
  readonly idleMs: number
  /** Reads that run at once. */
  readonly requests: number
  /** Requests that may be queued; beyond that nothing more is read from the socket. */
  readonly waiting: number
  /** Trees and lists of ranges that are streamed at once. */
  readonly streams: number
  /** Bytes that are being read or wait to be sent. A single request may exceed it. */
  readonly bytesInFlight: number
}

export interface ServedConnectionOptions {
  readonly socket: TLSSocket
  readonly limits: ConnectionLimits
  readonly backups: BackupPool
  readonly onError: ((ticket: Ticket, error: HowdahError) => void) | undefined
  readonly observer: ServedObserver
  readonly logger: Logger
  /** @throws HowdahError `unauthorized` */
  readonly authorize: (ticket: string) => Ticket
}

/** A stream adds nothing while more than that waits to be sent, so that small reads are answered soon. Bytes. */
const STREAM_AHEAD_BYTES = 2 * 1024 * 1024

/** How long a refused peer has to read the reason. */
const REFUSAL_GRACE_MS = 1000

/** Serves the connection until its socket closes. */
export function serveConnection(options: ServedConnectionOptions): void {
  new Connection(options)
}

class Connection {
  readonly #socket: TLSSocket
  readonly #limits: ConnectionLimits
  readonly #backups: BackupPool
  readonly #authorize: (ticket: string) => Ticket
  readonly #onError: ServedConnectionOptions['onError']
  readonly #observer: ServedObserver
  readonly #writer: FrameWriter
  readonly #parser: FrameParser
  /** The deadline of the hello, then that of a refused peer. */
  #timer: NodeJS.Timeout
  #logger: Logger
  #state: 'handshake' | 'opening' | 'open' | 'closed' = 'handshake'
  #ticket: Ticket | undefined
  #lease: BackupLease | undefined
  #unsubscribe: (() => void) | undefined
  readonly #requests: RequestTable
  readonly #streams: StreamTable

  constructor(options: ServedConnectionOptions) {
    const { socket, limits } = options
    this.#socket = socket
    this.#limits = limits
    this.#backups = options.backups
    this.#authorize = options.authorize
    this.#onError = options.onError
    this.#observer = options.observer
    this.#logger = options.logger
    this.#streams = new StreamTable(limits.streams)
    this.#writer = new FrameWriter(socket, () => this.#resume())
    this.#requests = new RequestTable({
      limits,
      writer: this.#writer,
      observer: options.observer,
      onFailure: (id, error) => this.#fail(id, error),
      onRoom: () => this.#resume(),
    })
    this.#parser = new FrameParser(CLIENT_FRAMES, (type, id, payload) => this.#receive(type, id, payload))
    this.#timer = setTimeout(
      () => this.#refuse(new HowdahError('timeout', 'The hello did not come in time.')),
      limits.helloMs,
    )
    socket.setTimeout(limits.idleMs, () => {
      this.#logger.info('data plane: idle connection closed')
      this.close()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#logger.info({ code: error.code }, 'data plane: connection lost')
    })
    socket.on('end', () => this.close())
    socket.on('close', () => {
      this.close()
      clearTimeout(this.#timer)
    })
    socket.on('data', (chunk: Buffer) => this.#push(chunk))
  }

  close(): void {
    this.#release()
    this.#socket.destroy()
  }

  /** Releases everything that the connection holds; what its requests still yield is dropped. */
  #release(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    clearTimeout(this.#timer)
    this.#requests.cancelAll()
    this.#streams.stopAll()
    this.#unsubscribe?.()
    this.#lease?.release()
  }

  #push(chunk: Buffer): void {
    if (this.#state === 'closed') return
    try {
      this.#parser.push(chunk)
    } catch (error) {
      this.#refuse(error)
    }
    this.#throttle()
  }

  /** Sends the reason, and closes the connection. */
  #refuse(error: unknown): void {
    if (this.#state === 'closed') return
    const body = errorBody(error)
    this.#logger.warn({ code: body.code, reason: body.message }, 'data plane: connection refused')
    this.#observer.refused()
    this.#release()
    this.#writer.send(encodeError(NO_REQUEST, body))
    // The peer closes once it has read the reason; one that does not is disconnected.
    this.#timer = setTimeout(() => this.#socket.destroy(), REFUSAL_GRACE_MS)
    this.#socket.resume()
  }

  #receive(type: number, id: number, payload: Buffer): void {
    if (this.#state === 'closed') return
    if (type === FRAME.ping) {
      this.#writer.send(encodeEmpty(FRAME.pong, NO_REQUEST))
      return
    }
    if (this.#state === 'handshake') {
      if (type !== FRAME.hello) throw malformed('first')
      void this.#handshake(payload)
      return
    }
    if (this.#state !== 'open') throw malformed('early')
    this.#request(type, id, payload)
  }

  async #handshake(payload: Buffer): Promise<void> {
    this.#state = 'opening'
    clearTimeout(this.#timer)
    try {
      const hello = decodeHello(payload)
      if (hello.version < OLDEST_VERSION || hello.version > PROTOCOL_VERSION) {
        throw new HowdahError(
          'unauthorized',
          `The mount server speaks versions ${OLDEST_VERSION} to ${PROTOCOL_VERSION} of the data plane, the target version ${hello.version}; install the same Howdah on both.`,
        )
      }
      const ticket = this.#authorize(hello.ticket)
      this.#ticket = ticket
      this.#logger = this.#logger.child({ session: ticket.session })
      const lease = await this.#backups.acquire(ticket)
      if (this.#ended()) {
        lease.release()
        return
      }
      this.#lease = lease
      if (hello.version >= DAMAGED_BLOCK_VERSION) {
        this.#unsubscribe = lease.source.onDamagedBlock?.((file, block) =>
          this.#writer.send(encodeDamagedBlock(file, block)),
        )
      }
      this.#state = 'open'
      this.#writer.send(encodeWelcome(hello.version))
      this.#logger.debug({ backup: ticket.backup }, 'data plane: connected')
    } catch (error) {
      if (!(error instanceof HowdahError)) this.#logger.error({ err: error }, 'opening a backup failed')
      this.#notifyError(error)
      this.#refuse(error)
    }
  }

  #request(type: number, id: number, payload: Buffer): void {
    switch (type) {
      case FRAME.read:
      case FRAME.walRead:
      case FRAME.walReadStored:
      case FRAME.walSize:
      case FRAME.walStored:
        this.#requests.add(decodeRequest(type, id, payload))
        this.#admit()
        break
      case FRAME.tree: {
        const { skip, credit } = decodeTree(payload)
        this.#stream('tree', id, credit, (source, gate, send) => sendTree(id, source, skip, gate, send))
        break
      }
      case FRAME.readMany: {
        const request = decodeReadMany(payload)
        this.#stream('ranges', id, request.credit, (source, gate, send) =>
          sendRanges(id, source, request, gate, send),
        )
        break
      }
      case FRAME.credit:
        this.#streams.grant(id, decodeCredit(payload))
        break
      case FRAME.cancel:
        this.#requests.cancel(id)
        this.#streams.stop(id)
        break
      default:
        throw malformed('second hello')
    }
  }

  #taken(id: number): boolean {
    return this.#requests.isRunning(id) || this.#streams.has(id)
  }

  #admit(): void {
    const source = this.#lease?.source
    if (source === undefined) return
    try {
      this.#requests.admit(source, (id) => this.#streams.has(id))
    } catch (error) {
      this.#refuse(error)
    }
  }

  #fail(id: number, error: unknown): void {
    if (!(error instanceof HowdahError)) this.#logger.error({ err: error }, 'data plane: a request failed')
    this.#notifyError(error)
    this.#observer.failed()
    this.#writer.send(encodeError(id, errorBody(error)))
  }

  #notifyError(error: unknown): void {
    if (this.#ticket !== undefined && error instanceof HowdahError) this.#onError?.(this.#ticket, error)
  }

  #stream(
    kind: 'tree' | 'ranges',
    id: number,
    credit: number,
    run: (
      source: BackupSource,
      gate: StreamGate,
      send: (head: Buffer, body?: Buffer) => void,
    ) => Promise<void>,
  ): void {
    const source = this.#lease?.source
    if (source === undefined || this.#taken(id)) throw malformed('request with a used number')
    const limit = Math.min(STREAM_AHEAD_BYTES, this.#limits.bytesInFlight)
    const gate = new StreamGate(credit, () => this.#writer.pendingBytes < limit)
    const startedAt = performance.now()
    let bytes = 0
    const send = (head: Buffer, body?: Buffer) => {
      bytes += body?.length ?? 0
      this.#writer.send(head, body)
    }
    this.#streams
      .run(id, gate, () => run(source, gate, send))
      .then(() => {
        if (!gate.signal.aborted) this.#observer.answered(kind, performance.now() - startedAt, bytes)
      })
      .catch((error: unknown) => {
        if (!this.#ended() && !gate.signal.aborted) this.#fail(id, error)
      })
  }

  /** Something was sent or finished: there may be room for more, or the reason of a refusal has been sent. */
  #resume(): void {
    if (this.#state === 'closed') {
      if (this.#writer.pendingBytes === 0) this.#socket.end()
      return
    }
    this.#admit()
    this.#streams.wake()
    this.#throttle()
  }

  /** Pauses the socket while too much waits, and resumes it afterwards. */
  #throttle(): void {
    if (this.#state === 'closed') return
    const full =
      this.#requests.waiting >= this.#limits.waiting || this.#writer.pendingBytes > this.#limits.bytesInFlight
    if (full !== this.#socket.isPaused()) {
      if (full) this.#socket.pause()
      else this.#socket.resume()
    }
  }

  /** A function, because the compiler would take the state after an await to be the one before it. */
  #ended(): boolean {
    return this.#state === 'closed'
  }
}
