/**
 * One connection of the data plane's client: connects, greets, notices when the peer is gone, and connects again,
 * until it is closed. Knows nothing of requests; frames go through it.
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
  /** How often the peer is asked for a sign of life when nothing came from it, ms; at three times that it is given up. */
  readonly pingMs: number
  readonly onReady: (connection: ClientConnection) => void
  readonly onFrame: (connection: ClientConnection, type: number, id: number, payload: Buffer) => void
  /** The connection is gone and will be tried again. `unauthorized` and the like: trying again will hardly help. */
  readonly onDown: (connection: ClientConnection, error: HowdahError) => void
}

/** A refusal seldom passes soon: the wait after it is that of the attempt with this number at least. */
const REFUSED_ATTEMPTS = 5
/** Between tries to connect, and to ask again. */
export const RECONNECT: Backoff = { firstMs: 50, maxMs: 5000 }

/** More than a TLS record holds. */
const RECEIVE_BYTES = 64 * 1024

/** How long connecting and the TLS handshake may take together. */
const CONNECT_MS = 10_000

/** TLS alerts by which a server refuses a certificate, as codes of Node's errors (RFC 8446, 6.2). */
const CERTIFICATE_ALERT = /^ERR_SSL_.*ALERT.*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/

export class ClientConnection {
  /** Bytes that answers to outstanding requests may take; the client's to count. */
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
      // One buffer for all that arrives, instead of a new one per TLS record: far less garbage, and a third faster.
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
    let heard = true
    let silences = 0

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
      heard = true
      try {
        parser.push(Buffer.from(buffer.buffer, buffer.byteOffset, bytes))
      } catch (error) {
        fail(error instanceof HowdahError ? error : malformed('answer', error))
      }
      return true
    }

    // Counted in ticks: after a pause of this whole process the peer still has its full time.
    const pulse = setInterval(() => {
      silences = heard ? 0 : silences + 1
      heard = false
      if (silences >= 3) fail(unavailable(`${host}:${port} gives no sign of life.`))
      else if (silences >= 1 && secured) writer.send(encodeEmpty(FRAME.ping, NO_REQUEST))
    }, this.#options.pingMs)
    const patience = setTimeout(() => fail(unavailable(`${host}:${port} does not answer.`)), CONNECT_MS)

    socket.on('secureConnect', () => {
      clearTimeout(patience)
      secured = true
      writer.send(encodeHello(ticket))
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      failure ??= connectionError(error, socket, host, port)
    })
    socket.on('close', () => {
      clearInterval(pulse)
      clearTimeout(patience)
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
