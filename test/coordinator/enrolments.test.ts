/** What follows from enrolling and revoking agents: for their sessions, their reports, and the lists of mount agents. */
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { makeCertificateRequest, makePrivateKey } from '../../config/certificate-request.ts'
import { openEnrolments } from '../../coordinator/enrolments.ts'
import { openAuthority } from '../../coordinator/fleet/authority/authority.ts'
import { ensureAuthority } from '../../coordinator/fleet/authority/certificates.ts'
import type { AgentUsers } from '../../coordinator/fleet/broker-users/agent-users.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { Outcome } from '../../messages/bus.ts'
import type { CommandBody } from '../../messages/definitions.ts'
import type { RevocationList } from '../../messages/enrolment.ts'
import { HowdahError } from '../../messages/errors.ts'
import { agentUser } from '../../messages/permissions.ts'
import { scratchDirectory } from '../support/scratch.ts'
import {
  mountAgent,
  openTestCoordinator,
  publishBody,
  type TestClock,
  type TestCoordinator,
  targetAgent,
  until,
} from './test-coordinator.ts'

const OPERATOR = 'howdah-operator-alice'
const TARGET = { kind: 'target', name: 'db-7' } as const
const reasonOf = (outcome: Outcome): string => (outcome === 'ack' ? 'accepted' : outcome.deadLetter)

describe('enrolled agents', () => {
  let directory: string
  let store: Store
  let clock: TestClock
  let coordinator: TestCoordinator
  /** At the broker. */
  let users: Set<string>
  /** What the management API fails with. */
  let failure: HowdahError | undefined

  beforeEach(async () => {
    directory = await scratchDirectory('howdah-enrolments-')
    await ensureAuthority(path.join(directory, 'authority'))
    store = await openSqliteStore(path.join(directory, 'store.sqlite'))
    clock = { now: Date.parse('2026-11-22T06:00:00Z') }
    users = new Set()
    failure = undefined
    coordinator = await open()
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
    await rm(directory, { recursive: true })
  })

  async function open(): Promise<TestCoordinator> {
    const change = async (work: () => void): Promise<void> => {
      if (failure) throw failure
      work()
    }
    const agentUsers: AgentUsers = {
      add: (agent) => change(() => users.add(agentUser(agent))),
      remove: (agent) => change(() => users.delete(agentUser(agent))),
      addInvited: () => change(() => {}),
      removeInvited: () => change(() => {}),
    }
    return openTestCoordinator(store, clock, undefined, {
      authority: await openAuthority(path.join(directory, 'authority')),
      users: agentUsers,
    })
  }

  /** The command of an operator. */
  const certify = async (again = false, sender = OPERATOR) =>
    coordinator.command(
      'agent.certify',
      { ...TARGET, csr: await request(), again } as CommandBody<'agent.certify'>,
      undefined,
      sender,
    )
  const request = () =>
    makeCertificateRequest({ key: makePrivateKey(), commonName: 'howdah-target-db-7', names: [] })
  const revoke = (sender: string | undefined = OPERATOR) =>
    coordinator.command('agent.revoke', TARGET, undefined, sender)

  it('are disrupted with their sessions when they are revoked, and what is published on them is refused', async () => {
    await certify()
    const session = await coordinator.publish()
    expect(await revoke()).to.deep.equal({ accepted: true, sessions: [session] })
    const { state, error } = await coordinator.session(session)
    expect(state).to.equal('disrupted')
    expect(error).to.include({ code: 'certificate_revoked' })
    expect(error?.message).to.include('the certificate of the target agent "db-7" was revoked')
    const [, target] = coordinator.registry.list().sort((a, b) => a.kind.localeCompare(b.kind))
    expect(target).to.include({ name: 'db-7', online: false, revoked: true })
    const { error: refused } = await coordinator.command('instance.publish', publishBody)
    expect(refused).to.include({ code: 'certificate_revoked', field: 'target' })
  })

  it('cannot report any more when they are revoked, also with what waited in the queue', async () => {
    await certify()
    const session = await coordinator.publish()
    await revoke()
    const lost = { session, what: 'postgres', reason: 'gone' } as const
    expect(reasonOf(await coordinator.report('session.lost', lost, TARGET, 'howdah-target-db-7'))).to.match(
      /^unauthorized: .*"howdah-target-db-7", who was revoked$/,
    )
    const beat = await coordinator.report('agent.online', targetAgent, TARGET, 'howdah-target-db-7')
    expect(reasonOf(beat)).to.match(/^unauthorized/)
    expect(coordinator.registry.isOnline(TARGET)).to.equal(false)
  })

  it('go on with their sessions when they are enrolled again, as another user', async () => {
    await certify()
    const session = await coordinator.publish()
    await revoke()
    expect((await certify()).error).to.include({ code: 'certificate_revoked' })
    expect(users).to.deep.equal(new Set())
    expect((await certify(true)).accepted).to.equal(true)
    expect(users).to.deep.equal(new Set(['howdah-target-db-7.2']))
    expect((await coordinator.session(session)).state).to.equal('published')
    const beat = (user: string) => coordinator.report('agent.online', targetAgent, TARGET, user)
    expect(await beat('howdah-target-db-7.2')).to.equal('ack')
    expect(coordinator.registry.isOnline(TARGET)).to.equal(true)
    expect(reasonOf(await beat('howdah-target-db-7'))).to.match(/who was revoked/)
  })

  it('are revoked all the same while the management API is away, and their users are removed later', async () => {
    await certify()
    const session = await coordinator.publish()
    failure = new HowdahError('broker_unavailable', 'the management API cannot be reached')
    const { error } = await revoke()
    expect(error).to.include({ code: 'broker_unavailable', retryable: true })
    expect(error?.message).to.include('is revoked, and mount agents refuse it')
    expect((await coordinator.session(session)).state).to.equal('disrupted')
    expect(users).to.deep.equal(new Set(['howdah-target-db-7']))
    // Another coordinator takes over, or the same one after a crash.
    await coordinator.close()
    coordinator = await open()
    failure = undefined
    coordinator.conductor.start()
    await until('the user is removed', () => users.size === 0)
  })

  it('are known to a coordinator that stood by when it takes over', async () => {
    const options = { store, authority: undefined, users: undefined, lifetimeMs: 1, now: () => clock.now }
    const standby = await openEnrolments({ ...options, logger: pino({ level: 'silent' }) })
    await certify()
    await revoke()
    expect(standby.isRevoked(TARGET)).to.equal(false)
    await standby.refresh()
    expect(standby.isRevoked(TARGET)).to.equal(true)
    expect(standby.isPast({ ...TARGET, enrolment: 1 })).to.equal(true)
    expect(standby.revocations.version).to.equal(1)
  })

  it('are made and revoked by operators only', async () => {
    for (const sender of [
      'howdah-client-ops',
      'howdah-target-db-7',
      'howdah-mount-backup-1',
      'howdah-invite-0123456789abcdef',
    ]) {
      expect((await certify(false, sender)).error, sender).to.include({ code: 'unauthorized' })
      expect((await revoke(sender)).error, sender).to.include({ code: 'unauthorized' })
    }
    const unsigned = await coordinator.command('agent.revoke', TARGET)
    expect(unsigned.error).to.include({ code: 'unauthorized' })
    expect(users).to.deep.equal(new Set())
  })

  it('of which one is revoked are made known to mount agents until each has the list', async () => {
    const beat = (revocations: number) =>
      coordinator.report('agent.online', { ...mountAgent, revocations }, mountAgent, 'howdah-mount-backup-1')
    const lists = () =>
      coordinator.bus.sent.flatMap(({ type, body }) =>
        type === 'agent.revocations' ? [body as unknown as RevocationList] : [],
      )
    await beat(0)
    expect(lists()).to.deep.equal([])
    await certify()
    await revoke()
    const expected = { version: 1, revoked: [{ user: 'howdah-target-db-7', before: 2 }] }
    await until('the list is sent', () => lists().length === 1)
    expect(lists()).to.deep.equal([expected])
    await beat(0)
    await until('the list is sent again', () => lists().length === 2)
    await beat(1)
    await beat(1)
    expect(lists()).to.have.length(2)
    // One that has the list of a store that was restored since.
    await beat(7)
    await until('the list is sent again', () => lists().length === 3)
  })

  it('that start ask for that list, and for other certificates as themselves', async () => {
    await certify()
    await revoke()
    await certify(true)
    const wanted = { kind: 'mount', name: 'backup-1' } as const
    await coordinator.report('agent.revocations-wanted', wanted, mountAgent, 'howdah-mount-backup-1')
    expect(coordinator.bus.replies.get('event')).to.deep.include({ accepted: true, version: 1 })
    const renew = async (user: string): Promise<{ accepted: boolean; error?: { code: string } }> => {
      await coordinator.report('agent.renew', { ...TARGET, csr: await request() }, TARGET, user)
      return coordinator.bus.replies.get('event') as { accepted: boolean; error?: { code: string } }
    }
    expect((await renew('howdah-target-db-7.2')).accepted).to.equal(true)
    expect((await renew('howdah')).error).to.include({ code: 'configuration' })
    expect((await renew('howdah-target-db-7.3')).error).to.include({ code: 'certificate_revoked' })
  })
})
