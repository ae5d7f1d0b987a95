/** Owns what the data plane's tests share: certificates made once per suite, servers and clients that are closed after each test. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import tls from 'node:tls'
import { expect } from 'chai'
import { pino } from 'pino'
import type { BackupSource } from '../../agents/dataplane/backup-source.ts'
import {
  connectDataPlane,
  type DataPlaneClient,
  type DataPlaneClientOptions,
} from '../../agents/dataplane/client/client.ts'
import { TLS_VERSIONS } from '../../agents/dataplane/protocol/protocol.ts'
import { signTicket, type Ticket } from '../../agents/dataplane/protocol/ticket.ts'
import {
  createDataPlaneServer,
  type DataPlaneServer,
  type DataPlaneServerOptions,
  type TlsMaterial,
} from '../../agents/dataplane/server/server.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import { type ErrorCode, HowdahError } from '../../messages/errors.ts'
import { type Addressed, type Cable, makeCable } from './cable.ts'

export const ticketKey = Buffer.alloc(32, 7)

export const ticket: Ticket = {
  session: 'main-1a2b3c',
  repository: 'vault',
  instance: 'main',
  backup: '20260102-030405F',
  target: 'replica',
  issuedAt: '2026-01-02T03:04:05Z',
}

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

async function material({ ca, cert, key }: CertificatePaths): Promise<TlsMaterial> {
  return { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) }
}

export interface Certificates {
  readonly mount: TlsMaterial
  /** Of the target `replica`, which the ticket is for. */
  readonly target: TlsMaterial
  readonly otherTarget: TlsMaterial
}

async function makeCertificates(): Promise<Certificates> {
  const directory = await mkdtemp(join(tmpdir(), 'howdah-certificates-'))
  try {
    const [mount, target, otherTarget] = await ensureCertificates(directory, {
      identities: [
        { kind: 'mount', name: 'vault', addresses: ['127.0.0.1'] },
        { kind: 'target', name: 'replica', addresses: [] },
        { kind: 'target', name: 'other', addresses: [] },
      ],
    })
    if (!mount || !target || !otherTarget) throw new Error('certificates are missing')
    return {
      mount: await material(mount),
      target: await material(target),
      otherTarget: await material(otherTarget),
    }
  } finally {
    await rm(directory, { recursive: true })
  }
}

export interface DataPlaneFixture {
  readonly certificates: Certificates
  /** Certificates of another authority, with the same names. */
  readonly strangers: Certificates
  serve(
    source: BackupSource | ((ticket: Ticket) => Promise<BackupSource>),
    options?: Partial<DataPlaneServerOptions>,
  ): Promise<DataPlaneServer>
  connect(
    server: Addressed,
    options?: Partial<DataPlaneClientOptions> & { readonly tls?: TlsMaterial },
  ): DataPlaneClient
  /** A proxy in front of the server whose cable can be cut. */
  cable(server: DataPlaneServer): Promise<Cable>
  /** A TLS connection on which the test writes frames itself. */
  connectRaw(server: DataPlaneServer, options?: tls.ConnectionOptions): Promise<tls.TLSSocket>
}

/** Call inside `describe`: makes the certificates before its tests, and closes what each test opened after it. */
export function useDataPlane(): DataPlaneFixture {
  let certificates: Certificates | undefined
  let strangers: Certificates | undefined
  let closers: (() => Promise<void>)[] = []
  const made = (value: Certificates | undefined): Certificates => {
    if (value === undefined) throw new Error('certificates are made before the tests')
    return value
  }

  before(async function () {
    this.timeout(20_000)
    certificates = await makeCertificates()
    strangers = await makeCertificates()
  })

  afterEach(async () => {
    const closing = closers.reverse()
    closers = []
    for (const close of closing) await close()
  })

  return {
    get certificates() {
      return made(certificates)
    },
    get strangers() {
      return made(strangers)
    },
    async serve(source, options = {}) {
      const server = await createDataPlaneServer({
        host: '127.0.0.1',
        port: 0,
        tls: made(certificates).mount,
        ticketKey,
        openBackup: typeof source === 'function' ? source : async () => source,
        logger,
        ...options,
      })
      closers.push(() => server.close())
      return server
    },
    connect(server, { tls: material = made(certificates).target, ...options } = {}) {
      const client = connectDataPlane({
        ...server.address,
        ticket: signTicket(ticket, ticketKey),
        secureContext: tls.createSecureContext({ ...material, ...TLS_VERSIONS }),
        serverName: 'vault',
        logger,
        deadlineMs: 20_000,
        ...options,
      })
      closers.push(() => client.close())
      return client
    },
    async cable(server) {
      const cable = await makeCable(server)
      closers.push(() => cable.close())
      return cable
    },
    async connectRaw(server, options = {}) {
      const socket = tls.connect({
        ...server.address,
        ...made(certificates).target,
        ...options,
      })
      socket.on('error', () => {})
      closers.push(async () => {
        socket.destroy()
      })
      await new Promise<void>((resolve) => {
        socket.once('secureConnect', resolve)
        socket.once('close', () => resolve())
      })
      return socket
    },
  }
}

/** Waits until `condition` holds; the test's own time limit is the deadline. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5)
}

/** Expects a `HowdahError` of that code, and returns it. */
export async function expectFailure(promise: Promise<unknown>, code: ErrorCode): Promise<HowdahError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).to.be.instanceOf(HowdahError)
  expect((error as HowdahError).code, (error as HowdahError).message).to.equal(code)
  return error as HowdahError
}
