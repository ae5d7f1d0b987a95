/**
 * Owns one connection of the data plane's client: connecting, the handshake, detecting a lost peer, and reconnecting
 * until it is closed. Must not touch requests: frames pass through it.
 */
import type { OnReadOpts } from 'node:net'
import tls from 'node:tls'
import { type Backoff, backoffMs } from '../../../messages/backoff.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { FrameParser, FrameWriter } from '../protocol/frames.ts'
import {
  decodeError,
  decodeWelcome,
  encodeEmpty,
  encodeHello,
  FRAME,
  malformed,
  NO_REQUEST,
  PROTOCOL_VERSION,
  SERVER_FRAMES,
} from '../protocol/protocol.ts'

export interface ClientConnectionOptions {
  readonly host: string
  readonly port: number
  /** Name that the server's certificate must carry; default: `host`. */
  readonly serverName: string | undefined
  readonly secureContext: tls.SecureContext
  readonly ticket: string
  /** How often a silent peer is pinged, ms; after three times that the connection counts as lost. */
  readonly pingMs: number
  readonly onReady: (connection: ClientConnection) => void
  readonly onFrame: (connection: ClientConnection, type: number, id: number, payload: Buffer) => void
  /** The connection is lost and will be retried. `unauthorized` and the like: a retry will hardly help. */
  readonly onDown: (connection: ClientConnection, error: HowdahError) => void
}

/** A refusal seldom ends soon: the delay after it is at least that of the attempt with this number. */
const REFUSED_ATTEMPTS = 5
/** Between attempts to connect, and between attempts of a request. */
export const RECONNECT: Backoff = { firstMs: 50, maxMs: 5000 }

/** More than a TLS record holds. */
const RECEIVE_BYTES = 64 * 1024

/** How long connecting and the TLS handshake may take together. */
const CONNECT_MS = 10_000

/** TLS alerts by which a server refuses a certificate, as codes of Node's errors (RFC 8446, 6.2). */
const CERTIFICATE_ALERT = /^ERR_SSL_.*ALERT.*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/

export class ClientConnection {
  /** Bytes that answers to outstanding requests may take; counted by the `ExchangeTable`. */
  load = 0
  readonly #options: ClientConnectionOptions
  #socket: tls.TLSSocket | undefined
  #writer: FrameWriter | undefined
  #timer: NodeJS.Timeout | undefined
  #attempts = 0
  #ready = false
  #closed = false

  constructor(options: ClientConnectionOptions) {
    this.#options = options
    this.#connect()
  }

  get ready(): boolean {
    return this.#ready
  }

  send(frame: Buffer): void {
    this.#writer?.send(frame)
  }

  close(): void {
    this.#closed = true
    this.#ready = false
    clearTimeout(this.#timer)
    this.#socket?.destroy()
  }

  #connect(): void {
    const { host, port, serverName, secureContext, ticket } = this.#options
    const connectOptions: tls.ConnectionOptions & { onread: OnReadOpts } = {
      // One buffer for everything that arrives, instead of one per TLS record: far less garbage, and a third faster.
      onread: {
        buffer: Buffer.allocUnsafeSlow(RECEIVE_BYTES),
        callback: (bytes, buffer) => receive(buffer, bytes),
      },
      host,
      port,
      secureContext,
      minVersion: 'TLSv1.3',
      ...(serverName !== undefined && { servername: serverName }),
    }
    const socket = tls.connect(connectOptions)
    this.#socket = socket
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 10_000)
    const writer = new FrameWriter(socket)
    this.#writer = writer
    let failure: HowdahError | undefined
    let secured = false
    let received = true
    let silentTicks = 0

    const fail = (error: HowdahError) => {
      failure ??= error
      socket.destroy()
    }
    const parser = new FrameParser(SERVER_FRAMES, (type, id, payload) => {
      if (this.#socket !== socket || socket.destroyed) return
      if (type === FRAME.pong) return
      if (id === NO_REQUEST && type === FRAME.error) return fail(decodeError(payload))
      if (this.#ready) return this.#options.onFrame(this, type, id, payload)
      if (type !== FRAME.welcome || decodeWelcome(payload) !== PROTOCOL_VERSION) throw malformed('welcome')
      this.#attempts = 0
      this.#ready = true
      this.#options.onReady(this)
    })

    const receive = (buffer: Uint8Array, bytes: number): boolean => {
      received = true
      try {
        parser.push(Buffer.from(buffer.buffer, buffer.byteOffset, bytes))
      } catch (error) {
        fail(error instanceof HowdahError ? error : malformed('answer', error))
      }
      return true
    }

    // Counted in ticks: after this whole process was stopped for a while, the peer still has its full time.
    const pinger = setInterval(() => {
      silentTicks = received ? 0 : silentTicks + 1
      received = false
      if (silentTicks >= 3) fail(unavailable(`${host}:${port} does not answer any more.`))
      else if (silentTicks >= 1 && secured) writer.send(encodeEmpty(FRAME.ping, NO_REQUEST))
    }, this.#options.pingMs)
    const connectTimer = setTimeout(() => fail(unavailable(`${host}:${port} does not answer.`)), CONNECT_MS)

    socket.on('secureConnect', () => {
      clearTimeout(connectTimer)
      secured = true
      writer.send(encodeHello(ticket))
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      failure ??= connectionError(error, socket, host, port)
    })
    socket.on('close', () => {
      clearInterval(pinger)
      clearTimeout(connectTimer)
      this.#ready = false
      this.#writer = undefined
      if (this.#closed) return
      failure ??= unavailable(
        secured && this.#attempts > 0
          ? `${host}:${port} closed the connection; does it trust this target's certificate?`
          : `${host}:${port} closed the connection.`,
      )
      const refused = failure.code !== 'repository_unavailable'
      this.#timer = setTimeout(
        () => this.#connect(),
        backoffMs((refused ? Math.max(this.#attempts, REFUSED_ATTEMPTS) : this.#attempts) + 1, RECONNECT),
      )
      this.#attempts += 1
      this.#options.onDown(this, failure)
    })
  }
}

function unavailable(what: string, cause?: unknown): HowdahError {
  return new HowdahError('repository_unavailable', `The mount server cannot be reached: ${what}`, { cause })
}

function connectionError(
  error: NodeJS.ErrnoException,
  socket: tls.TLSSocket,
  host: string,
  port: number,
): HowdahError {
  if (socket.authorizationError) {
    return new HowdahError(
      'unauthorized',
      `The certificate of the mount server at ${host}:${port} was refused: ${error.message}.`,
      { cause: error },
    )
  }
  if (CERTIFICATE_ALERT.test(error.code ?? '')) {
    return new HowdahError(
      'unauthorized',
      `The mount server at ${host}:${port} refused this target's certificate.`,
      { cause: error },
    )
  }
  return unavailable(`${host}:${port}: ${error.message}.`, error)
}
