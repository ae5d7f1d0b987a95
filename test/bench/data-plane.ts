/**
 * Owns a mount server's data plane in a process of its own on loopback, serving one backup of a repository, and the two ways
 * to read from it: its client, and a mount. `node data-plane.ts` with a parent is the server.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createSecureContext } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { connectDataPlane, type DataPlaneClient } from '../../agents/dataplane/client/client.ts'
import { TLS_VERSIONS } from '../../agents/dataplane/protocol/protocol.ts'
import { signTicket, type Ticket } from '../../agents/dataplane/protocol/ticket.ts'
import { createDataPlaneServer } from '../../agents/dataplane/server/server.ts'
import { openRepository } from '../../agents/mount/formats/open-repository.ts'
import type { RepositoryOptions } from '../../agents/mount/repository.ts'
import { serveRepositories } from '../../agents/mount/served-repositories.ts'
import { createSpool } from '../../agents/mount/spool/spool.ts'
import { keepSpare } from '../../agents/target/mount-process/agent/launch.ts'
import {
  type MountProcess,
  startMountProcess,
} from '../../agents/target/mount-process/agent/mount-process.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import { makeScratch } from '../filesystem/support/mounted.ts'
import type { Scope } from './scope.ts'

const SPOOL_BYTES = 4 * 1024 ** 3
const FETCHED_BYTES = 4 * 1024 ** 3
const NAME = 'bench'
const OWNER = { uid: 0, gid: 0 }
/** Until a spare mount process is loaded. */
const LOADED_MS = 1_500
const ticketKey = Buffer.alloc(32, 1)
const logger = pino({ level: 'silent' })

interface ServerOrders {
  readonly repository: Omit<RepositoryOptions, 'name'>
  readonly spool: string
  readonly tls: CertificatePaths
}

export interface Mounted {
  readonly process: MountProcess
  readonly mountPoint: string
  readonly cachePath: string
  /** The backup's data directory. */
  readonly data: string
  /** From the request to a mount that answers. */
  readonly seconds: number
}

export interface ServedBackup {
  readonly port: number
  connect(): DataPlaneClient
  /** Mounts it with nothing cached; unmounted when the scope is closed. */
  mount(scope: Scope, options?: MountOptions): Promise<Mounted>
}

export interface MountOptions {
  /** The owner; default: root. */
  readonly owner?: { readonly uid: number; readonly gid: number }
  /** The address of the server, where it is not connected to directly. */
  readonly port?: number
  /** The WAL segment that recovery begins with, where there is one; a publish reads it from its backup. */
  readonly firstWal?: string
}

/** The server ends with the scope. */
export async function serveBackup(
  scope: Scope,
  repository: ServerOrders['repository'],
  backup: Pick<Ticket, 'instance' | 'backup'>,
): Promise<ServedBackup> {
  const directory = await mkdtemp('/var/tmp/howdah-bench-plane-')
  scope.defer('the directory of the data plane', () => rm(directory, { recursive: true, force: true }))
  const [mountCertificate, target] = await ensureCertificates(path.join(directory, 'tls'), {
    identities: [
      { kind: 'mount', name: NAME, addresses: ['127.0.0.1'] },
      { kind: 'target', name: NAME, addresses: [] },
    ],
  })
  if (mountCertificate === undefined || target === undefined) throw new Error('no certificates were made')
  const spool = path.join(directory, 'spool')
  await mkdir(spool)
  const orders: ServerOrders = { repository, spool, tls: mountCertificate }
  const server = fork(fileURLToPath(import.meta.url), [JSON.stringify(orders)])
  scope.defer('the data plane', async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.disconnect()
    await exited
  })
  const [port] = (await Promise.race([
    once(server, 'message'),
    once(server, 'exit').then(() => Promise.reject(new Error('the data plane did not start'))),
  ])) as [number]
  const ticket = signTicket(
    { session: NAME, repository: NAME, target: NAME, issuedAt: new Date().toISOString(), ...backup },
    ticketKey,
  )
  const tls = await readPems(target)
  const plane = { host: '127.0.0.1', port, ticket, serverName: NAME }

  return {
    port,
    connect: () =>
      connectDataPlane({ ...plane, secureContext: createSecureContext({ ...tls, ...TLS_VERSIONS }), logger }),
    async mount(mountScope, { owner = OWNER, port: reachedAt = port, ...more } = {}) {
      const scratch = await makeScratch(owner)
      mountScope.defer(scratch.mountPoint, () => scratch.remove())
      // As in the target agent: a spare process is loaded and waits for its request.
      const spare = keepSpare({ errors: path.join(scratch.directory, 'errors.log') })
      mountScope.defer('the spare mount program', async () => spare.close())
      await sleep(LOADED_MS)
      const started = performance.now()
      const process = await startMountProcess(
        {
          ...{ session: NAME, mountPoint: scratch.mountPoint, cachePath: scratch.cachePath, owner },
          ...{ allowOther: true, extraFiles: [], reserveBytes: 0, readDeadlineMs: 60_000 },
          // An empty store.
          fetched: { directory: path.join(scratch.directory, 'fetched'), budgetBytes: FETCHED_BYTES },
          backup: { repository: NAME, instance: backup.instance, label: backup.backup },
          dataPlane: { ...plane, port: reachedAt, tls: target },
          ...more,
        },
        { logger, launch: () => spare.take() },
      )
      const seconds = (performance.now() - started) / 1000
      spare.close()
      const { mountPoint, cachePath, data } = scratch
      return { process, mountPoint, cachePath, data, seconds }
    },
  }
}

async function readPems({ ca, cert, key }: CertificatePaths) {
  return { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) }
}

async function runServer({ repository, spool, tls }: ServerOrders): Promise<void> {
  const options = { name: NAME, ...repository }
  const opened = openRepository(options, {
    spool: await createSpool({ directory: spool, maxBytes: SPOOL_BYTES, logger }),
    logger,
  })
  const repositories = serveRepositories(NAME, [{ options, repository: opened }])
  const server = await createDataPlaneServer({
    host: '127.0.0.1',
    port: 0,
    tls: await readPems(tls),
    ticketKey,
    openBackup: (ticket) => repositories.open(ticket),
    logger,
  })
  process.send?.(server.address.port)
  process.on('disconnect', () => process.exit())
}

const [orders] = process.argv.slice(2)
if (
  process.send !== undefined &&
  process.argv[1] === fileURLToPath(import.meta.url) &&
  orders !== undefined
) {
  await runServer(JSON.parse(orders) as ServerOrders)
}
