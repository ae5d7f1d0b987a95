/**
 * Owns the data plane's server, which runs in a mount agent: it listens, admits targets whose certificate its authority
 * signed, and hands each connection the backup that its ticket names. A request passes from `connection.ts` to
 * `requests.ts` or `stream.ts` and from there to the backup of `backup-pool.ts`. Keeps no state that a restart would
 * lose, and must not touch a repository: backups are opened by the function it is given.
 */
import type { AddressInfo, Socket } from 'node:net'
import tls from 'node:tls'
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import type { BackupSource } from '../backup-source.ts'
import { CIPHER_SUITES } from '../protocol/protocol.ts'
import { type Ticket, verifyTicket } from '../protocol/ticket.ts'
import { createBackupPool } from './backup-pool.ts'
import { type ConnectionLimits, serveConnection } from './connection.ts'

/** Contents of PEM files. */
export interface TlsMaterial {
  readonly ca: string | Buffer
  readonly cert: string | Buffer
  readonly key: string | Buffer
}

export interface DataPlaneLimits extends ConnectionLimits {
  /** Limit of connections; those beyond it are closed at once. Default 1024. */
  readonly connections: number
  /** How long an unused backup stays open, ms. Default 60 s. */
  readonly unusedMs: number
  /** Most unused backups that stay open. Default 16. */
  readonly maxUnused: number
}

export const DEFAULT_LIMITS: DataPlaneLimits = {
  connections: 1024,
  unusedMs: 60_000,
  maxUnused: 16,
  helloMs: 10_000,
  idleMs: 60_000,
  requests: 256,
  waiting: 4096,
  streams: 4,
  bytesInFlight: 32 * 1024 * 1024,
}

export interface DataPlaneServerOptions {
  readonly host: string
  /** 0: the kernel chooses. */
  readonly port: number
  readonly tls: TlsMaterial
  readonly ticketKey: Buffer
  /** Called once per backup, however many connections use it. Its `HowdahError`s are sent to the target unchanged. */
  readonly openBackup: (ticket: Ticket) => Promise<BackupSource>
  /** Called with each error that is sent for a session; must not throw. */
  readonly onError?: (ticket: Ticket, error: HowdahError) => void
  readonly logger: Logger
  readonly limits?: Partial<DataPlaneLimits>
}

export interface DataPlaneServer {
  readonly address: { readonly host: string; readonly port: number }
  /** Closes all connections (their clients reconnect and repeat their requests) and all backups. */
  close(): Promise<void>
}

/**
 * Starts to listen: TLS 1.3, certificates on both sides.
 * @throws HowdahError `configuration` when the address cannot be listened on, or the TLS material is unusable
 */
export async function createDataPlaneServer(options: DataPlaneServerOptions): Promise<DataPlaneServer> {
  const { host, port, ticketKey, openBackup, logger } = options
  const limits: DataPlaneLimits = { ...DEFAULT_LIMITS, ...options.limits }
  const backups = createBackupPool({
    openBackup,
    unusedMs: limits.unusedMs,
    maxUnused: limits.maxUnused,
    logger,
  })
  /** Also those in the TLS handshake. */
  const sockets = new Set<Socket>()

  const server = createTlsServer(options.tls)
  server.maxConnections = limits.connections
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    logger.warn({ remote: socket.remoteAddress, code: error.code }, 'data plane: TLS handshake refused')
  })
  server.on('error', (error) => logger.error({ err: error }, 'data plane: server error'))
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('secureConnection', (socket) => {
    const { CN: target } = socket.getPeerCertificate().subject ?? {}
    serveConnection({
      socket,
      limits,
      backups,
      onError: options.onError,
      logger: logger.child({ remote: socket.remoteAddress, target }),
      authorize(text) {
        const ticket = verifyTicket(text, ticketKey)
        if (ticket.target !== target) {
          throw new HowdahError(
            'unauthorized',
            `The ticket is for target ${ticket.target}, but the certificate is that of ${target}.`,
          )
        }
        return ticket
      },
    })
  })

  await new Promise<void>((resolve, reject) => {
    const refuse = (cause: Error) =>
      reject(
        new HowdahError(
          'configuration',
          `The data plane cannot listen on ${host}:${port}: ${cause.message}. Choose another address or port.`,
          { cause },
        ),
      )
    server.once('error', refuse)
    server.listen(port, host, () => {
      server.off('error', refuse)
      resolve()
    })
  })

  const { address, port: bound } = server.address() as AddressInfo
  return {
    address: { host: address, port: bound },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
      await backups.close()
    },
  }
}

function createTlsServer({ ca, cert, key }: TlsMaterial): tls.Server {
  try {
    return tls.createServer({
      ca,
      cert,
      key,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      ciphers: CIPHER_SUITES,
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: 10_000,
      noDelay: true,
      keepAlive: true,
    })
  } catch (cause) {
    throw new HowdahError('configuration', 'The data plane cannot use its certificate or key.', { cause })
  }
}
