/**
 * Owns the data plane's server, which runs in a mount agent: it listens, admits targets whose certificate its authority
 * signed, and hands each connection the backup that its ticket names. A request passes from `connection.ts` to
 * `requests.ts` or `stream.ts` and from there to the backup of `backup-pool.ts`. Keeps no state that a restart would
 * lose, and must not touch a repository: backups are opened by the function it is given.
 */
import type { AddressInfo, Socket } from 'node:net'
import tls, { type TLSSocket } from 'node:tls'
import type { Logger } from 'pino'
import { isRevoked, type Revocations } from '../../../messages/certified.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { agentOfUser, agentUser, type EnrolledAgent } from '../../../messages/permissions.ts'
import type { BackupSource } from '../backup-source.ts'
import { TLS_VERSIONS } from '../protocol/protocol.ts'
import { type Ticket, verifyTicket } from '../protocol/ticket.ts'
import { createBackupPool } from './backup-pool.ts'
import { type ConnectionLimits, serveConnection } from './connection.ts'
import { type ServedObserver, UNOBSERVED } from './observer.ts'

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
  /** Whose certificates are revoked at the start. Default: nobody's. */
  readonly revocations?: Revocations
  /** Called once per backup, however many connections use it. Its `HowdahError`s are sent to the target unchanged. */
  readonly openBackup: (ticket: Ticket) => Promise<BackupSource>
  /** Called with each error that is sent for a session; must not throw. */
  readonly onError?: (ticket: Ticket, error: HowdahError) => void
  /** Default: nobody counts. */
  readonly observer?: ServedObserver
  readonly logger: Logger
  readonly limits?: Partial<DataPlaneLimits>
}

export interface DataPlaneServer {
  readonly address: { readonly host: string; readonly port: number }
  /** Uses another certificate for the connections that come from now on. @throws HowdahError `configuration` */
  renew(material: TlsMaterial): void
  /** Closes the connections of those who are revoked, and refuses them from now on. */
  revoke(revocations: Revocations): void
  /** Connections of targets, those in their handshake included. */
  readonly connections: number
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
  /** Whom the certificates of those past it name. */
  const peers = new Map<TLSSocket, EnrolledAgent>()
  let revocations: Revocations = options.revocations ?? new Map()

  const server = createTlsServer(options.tls)
  server.maxConnections = limits.connections
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    options.observer?.refused()
    logger.warn({ remote: socket.remoteAddress, code: error.code }, 'data plane: TLS handshake refused')
  })
  server.on('error', (error) => logger.error({ err: error }, 'data plane: server error'))
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('secureConnection', (socket) => {
    const { CN: user } = socket.getPeerCertificate().subject ?? {}
    const peer = agentOfUser(user)
    if (peer) {
      peers.set(socket, peer)
      socket.once('close', () => peers.delete(socket))
    }
    serveConnection({
      socket,
      limits,
      backups,
      onError: options.onError,
      logger: logger.child({ remote: socket.remoteAddress, user }),
      observer: options.observer ?? UNOBSERVED,
      authorize(text) {
        const ticket = verifyTicket(text, ticketKey)
        requireTarget(ticket, user, revocations)
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
    renew(material) {
      setCertificate(() => server.setSecureContext(tlsOptions(material)))
    },
    revoke(latest) {
      revocations = latest
      for (const [socket, peer] of peers) {
        if (!isRevoked(peer, latest)) continue
        logger.warn(peer, 'data plane: the certificate was revoked, connection closed')
        socket.destroy()
      }
    },
    get connections() {
      return sockets.size
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
      await backups.close()
    },
  }
}

/** @param user whom the certificate names. @throws HowdahError `unauthorized` */
function requireTarget({ target }: Ticket, user: unknown, revocations: Revocations): void {
  const peer = agentOfUser(user)
  if (peer?.kind !== 'target' || peer.name !== target) {
    throw new HowdahError(
      'unauthorized',
      `The ticket is for target ${target}, but the certificate is that of ${user}; it must be that of ${agentUser({ kind: 'target', name: target })}.`,
    )
  }
  if (isRevoked(peer, revocations)) {
    throw new HowdahError('unauthorized', `The certificate of target ${target} was revoked.`)
  }
}

function createTlsServer(material: TlsMaterial): tls.Server {
  return setCertificate(() =>
    tls.createServer({
      ...tlsOptions(material),
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: 10_000,
      noDelay: true,
      keepAlive: true,
    }),
  )
}

function tlsOptions({ ca, cert, key }: TlsMaterial): tls.SecureContextOptions {
  return { ca, cert, key, ...TLS_VERSIONS }
}

/** @throws HowdahError `configuration` */
function setCertificate<T>(set: () => T): T {
  try {
    return set()
  } catch (cause) {
    throw new HowdahError('configuration', 'The data plane cannot use its certificate or key.', { cause })
  }
}
