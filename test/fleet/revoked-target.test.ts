/** A mount agent as a process, and a target that is revoked: while it runs, and while it was away. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import tls from 'node:tls'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectDataPlane } from '../../agents/dataplane/client/client.ts'
import { TLS_VERSIONS } from '../../agents/dataplane/protocol/protocol.ts'
import { loadTicketKey, signTicket, type Ticket } from '../../agents/dataplane/protocol/ticket.ts'
import { followTls } from '../../config/tls.ts'
import { freePort } from '../../coordinator/cli/free-port.ts'
import type { CertificatePaths } from '../../coordinator/fleet/authority/certificates.ts'
import { type EnrolledFleet, startEnrolledFleet } from '../support/enrolled-fleet.ts'
import { createRoles, type Roles } from '../support/fleet-roles.ts'
import { poll } from '../support/poll.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

describe('a mount agent and a revoked target', function () {
  this.timeout(90_000)
  let fleet: EnrolledFleet
  let roles: Roles
  let state: string
  let port: number

  before(async function () {
    this.timeout(180_000)
    fleet = await startEnrolledFleet()
    const paths = await fleet.enrol({ kind: 'mount', name: 'backup-1' })
    const files = { ca: paths.ca, certificate: paths.cert, key: paths.key }
    state = join(fleet.directory, 'mount-agent')
    port = await freePort()
    const configuration = {
      ...{ name: 'backup-1', stateDirectory: state, tls: files, heartbeat: { interval: 1 } },
      broker: { urls: [fleet.url], ...files },
      dataPlane: { host: '127.0.0.1', port, advertise: '127.0.0.1' },
      metrics: { listen: '127.0.0.1:0' },
    }
    await writeFile(join(fleet.directory, 'mount-agent.json'), JSON.stringify(configuration))
    roles = createRoles({ directory: fleet.directory, hosts: undefined, targetAccount: undefined })
    await roles.start('mount-agent')
  })

  after(async () => {
    await roles?.stop('mount-agent')
    await fleet?.remove()
  })

  /** What the mount agent answers a target with a ticket: none of its repositories has such a backup. */
  async function answer(paths: CertificatePaths, target: string): Promise<string> {
    const ticket: Ticket = {
      ...{ session: 'main-1a2b3c', repository: 'main', instance: 'shop', backup: '20260102-030405F', target },
      issuedAt: new Date().toISOString(),
    }
    const files = { ca: paths.ca, certificate: paths.cert, key: paths.key }
    const client = connectDataPlane({
      ...{ host: '127.0.0.1', port, serverName: 'backup-1', logger },
      ticket: signTicket(ticket, await loadTicketKey(join(state, 'ticket.key'))),
      secureContext: followTls(files, 'tls', TLS_VERSIONS),
    })
    try {
      await client.read(1, 0, 10)
      return 'served'
    } catch (error) {
      return (error as Error).message
    } finally {
      await client.close()
    }
  }

  async function revoke(name: string): Promise<void> {
    const reply = await fleet.operator.request('agent.revoke', { kind: 'target', name })
    expect(reply).to.have.property('accepted', true)
  }

  it('it closes the connections of the target at once, and refuses it from then on', async () => {
    const paths = await fleet.enrol({ kind: 'target', name: 'db-7' })
    expect(await answer(paths, 'db-7')).to.include('no repository "main"')
    const socket = tls.connect({
      ...{ host: '127.0.0.1', port, servername: 'backup-1.mount.howdah' },
      ca: await readFile(paths.ca),
      cert: await readFile(paths.cert),
      key: await readFile(paths.key),
    })
    socket.on('error', () => {})
    const closed = new Promise<number>((resolve) => socket.once('close', () => resolve(performance.now())))
    await new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()))
    const began = performance.now()
    await revoke('db-7')
    // Without a hello it would be closed after ten seconds.
    expect((await closed) - began).to.be.lessThan(8_000)
    expect(await answer(paths, 'db-7')).to.include('was revoked')
  })

  it('it serves nobody before it has learnt who was revoked while it was away', async () => {
    const stolen = await fleet.enrol({ kind: 'target', name: 'db-8' })
    const honest = await fleet.enrol({ kind: 'target', name: 'db-9' })
    await roles.stop('mount-agent', 'SIGKILL')
    await revoke('db-8')
    await fleet.stopCoordinator()
    const starting = roles.start('mount-agent')
    await poll(
      async () =>
        (await roles.logTails(50)).includes('no backup is served before the coordinator has said') ||
        undefined,
      { deadlineMs: 30_000, failure: () => 'the mount agent does not say that it waits' },
    )
    const reached = await new Promise<boolean>((resolve) => {
      const socket = tls.connect({ host: '127.0.0.1', port }, () => resolve(true))
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'))
    })
    expect(reached, 'its port').to.equal(false)
    await fleet.restartCoordinator()
    await starting
    expect(await answer(stolen, 'db-8')).to.include('was revoked')
    expect(await answer(honest, 'db-9')).to.include('no repository "main"')
  })
})
