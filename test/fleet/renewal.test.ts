/**
 * Certificates that live for some seconds, at a real broker and with the data plane between two agents: both renew them by
 * themselves, and neither reading nor a connection that is made later notices.
 */
import { readFile } from 'node:fs/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectDataPlane, type DataPlaneClient } from '../../agents/dataplane/client/client.ts'
import { TLS_VERSIONS } from '../../agents/dataplane/protocol/protocol.ts'
import { signTicket } from '../../agents/dataplane/protocol/ticket.ts'
import { createDataPlaneServer, type DataPlaneServer } from '../../agents/dataplane/server/server.ts'
import { keepCertificate } from '../../agents/runtime/own-certificate.ts'
import { followTls } from '../../config/tls.ts'
import type { CertificatePaths } from '../../coordinator/fleet/authority/certificates.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import { ticket, ticketKey } from '../dataplane/fixture.ts'
import { createMemorySource, expectedBytes } from '../dataplane/memory-source.ts'
import { type EnrolledFleet, startEnrolledFleet } from '../support/enrolled-fleet.ts'
import { poll } from '../support/poll.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const TARGET = { kind: 'target', name: ticket.target } as const
const MOUNT = { kind: 'mount', name: 'vault' } as const
const LIFETIME_MS = 9_000
const RENEWALS = 3
const CHUNK = 64 * 1024

describe('the renewal of certificates', function () {
  this.timeout(90_000)
  let fleet: EnrolledFleet
  const undo: (() => Promise<void> | void)[] = []

  before(async function () {
    this.timeout(180_000)
    fleet = await startEnrolledFleet({ lifetimeMs: LIFETIME_MS })
  })

  after(async () => {
    for (const step of undo.reverse()) await step()
    await fleet?.remove()
  })

  /** Keeps the certificate of an agent, and counts how often it changes. */
  async function keep(address: AgentAddress, onChange = () => {}) {
    const paths = await fleet.enrol(address)
    const files = { ca: paths.ca, certificate: paths.cert, key: paths.key }
    const bus = await fleet.connect(paths, 'agent')
    const kept = { files, bus, changes: 0, first: await readFile(paths.cert, 'utf8') }
    const certificate = await keepCertificate({
      ...{ address, files, bus, logger },
      onChange() {
        kept.changes += 1
        onChange()
      },
    })
    undo.push(() => certificate.close())
    return { ...kept, count: () => kept.changes, view: () => certificate.view }
  }

  const material = async ({ ca, cert, key }: CertificatePaths) => ({
    ca: await readFile(ca),
    cert: await readFile(cert),
    key: await readFile(key),
  })

  it('goes on three times while data is read, and outlives the first certificates by far', async () => {
    let server: DataPlaneServer | undefined
    const renewServer = async (): Promise<void> => server?.renew(await material(mountPaths))
    const mount = await keep(MOUNT, () => void renewServer())
    const mountPaths = { ...mount.files, cert: mount.files.certificate }
    server = await createDataPlaneServer({
      ...{ host: '127.0.0.1', port: 0, tls: await material(mountPaths), ticketKey, logger },
      openBackup: async () => createMemorySource(),
    })
    const running = server
    undo.push(() => running.close())
    const target = await keep(TARGET)
    const open = (): DataPlaneClient =>
      connectDataPlane({
        ...{ ...running.address, ticket: signTicket(ticket, ticketKey), serverName: MOUNT.name, logger },
        secureContext: followTls(target.files, 'tls', TLS_VERSIONS),
      })
    const lasting = open()
    undo.push(() => lasting.close())

    let reads = 0
    const read = async (client: DataPlaneClient): Promise<void> => {
      const offset = (reads * 12_345) % (1024 * 1024)
      const bytes = await client.read(1, offset, CHUNK)
      expect(bytes.equals(expectedBytes(1, offset, CHUNK))).to.equal(true)
      reads += 1
    }
    await poll(
      async () => {
        await read(lasting)
        // As a mount process that lost its connection: it connects with the certificate of now.
        const fresh = open()
        try {
          await read(fresh)
        } finally {
          await fresh.close()
        }
        return (mount.count() >= RENEWALS && target.count() >= RENEWALS) || undefined
      },
      {
        deadlineMs: 60_000,
        failure: () => `${mount.count()} and ${target.count()} renewals after ${reads} reads`,
      },
    )
    expect(reads).to.be.greaterThan(20)
    expect(await readFile(target.files.certificate, 'utf8')).to.not.equal(target.first)
    expect(target.view()).to.include({ user: `howdah-target-${ticket.target}` })

    // Their first certificates have expired: the broker takes the renewed ones.
    const before = [mount, target].map(({ bus }) => bus.connectedSince ?? 0)
    await fleet.closeConnections(['howdah-mount-vault', `howdah-target-${ticket.target}`])
    await poll(
      async () =>
        [mount, target].every(({ bus }, index) => (bus.connectedSince ?? 0) > (before[index] ?? 0)) ||
        undefined,
      { deadlineMs: 30_000, failure: () => 'the agents are not connected again' },
    )
    await read(lasting)
  })

  it('waits for a coordinator that is away, and is in time when that comes back', async () => {
    const agent = await keep({ kind: 'target', name: 'db-2' })
    await fleet.stopCoordinator()
    const before = Date.parse(agent.view().notAfter)
    await poll(async () => Date.now() > before - LIFETIME_MS / 2 || undefined, {
      deadlineMs: LIFETIME_MS,
      failure: () => 'half of its life is not over',
    })
    await fleet.restartCoordinator()
    await poll(async () => Date.parse(agent.view().notAfter) > before || undefined, {
      deadlineMs: 30_000,
      failure: () => 'it is not renewed',
    })
  })
})
