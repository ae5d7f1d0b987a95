import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { makeCertificateRequest, makePrivateKey } from '../../config/certificate-request.ts'
import { type Enrolments, openEnrolments } from '../../coordinator/enrolments.ts'
import { type Authority, openAuthority } from '../../coordinator/fleet/authority/authority.ts'
import { ensureAuthority } from '../../coordinator/fleet/authority/certificates.ts'
import type { AgentUsers } from '../../coordinator/fleet/broker-users/agent-users.ts'
import type { Invited } from '../../coordinator/invitations.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { HowdahError } from '../../messages/errors.ts'
import { agentUser, invitedUser } from '../../messages/permissions.ts'

const AGENT = { kind: 'target', name: 'db-7' } as const
const ID = '0123456789abcdef'
const logger = pino({ level: 'silent' })

describe('invitations', () => {
  let directory: string
  let authority: Authority
  let store: Store
  let now: number
  /** At the broker. */
  let users: Set<string>
  /** What the management API answers. */
  let failure: Error | undefined
  let enrolments: Enrolments

  const change = async (work: () => void): Promise<void> => {
    if (failure) throw failure
    work()
  }
  const agentUsers: AgentUsers = {
    add: (agent) => change(() => users.add(agentUser(agent))),
    remove: (agent) => change(() => users.delete(agentUser(agent))),
    addInvited: (id) => change(() => users.add(invitedUser(id))),
    removeInvited: (id) => change(() => users.delete(invitedUser(id))),
  }

  /** As after a crash. */
  async function reopen(): Promise<void> {
    enrolments = await openEnrolments({
      ...{ store, authority, users: agentUsers, lifetimeMs: 86_400_000, logger, now: () => now },
    })
  }

  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-invitations-'))
    await ensureAuthority(directory)
    authority = await openAuthority(directory, () => now)
  })
  after(() => rm(directory, { recursive: true, force: true }))

  beforeEach(async () => {
    now = Date.now()
    users = new Set()
    failure = undefined
    store = await openSqliteStore(path.join(await mkdtemp(path.join(directory, 'store-')), 'store.sqlite'))
    await reopen()
  })
  afterEach(() => store.close())

  const csrOf = (key: string, commonName: string) => makeCertificateRequest({ key, commonName, names: [] })

  async function invite(invitation = ID, again = false): Promise<Invited> {
    const csr = await csrOf(makePrivateKey(), invitedUser(invitation))
    return enrolments.invitations.invite(AGENT, { invitation, csr, ttlSeconds: 900, addresses: [], again })
  }

  const hostCsr = () => csrOf(makePrivateKey(), agentUser(AGENT))

  async function refusal(work: Promise<unknown>): Promise<string> {
    const error = await work.then(
      () => undefined,
      (failed: unknown) => failed,
    )
    expect(error).to.be.instanceOf(HowdahError)
    return (error as HowdahError).message
  }

  it('are for the first key that joins, which may ask again until its certificate has arrived', async () => {
    await invite()
    const csr = await hostCsr()
    const first = await enrolments.invitations.join(ID, csr)
    expect(first.agent).to.deep.equal(AGENT)
    expect(users).to.deep.equal(new Set([invitedUser(ID), agentUser(AGENT)]))
    // The answer was lost with the coordinator.
    await reopen()
    await enrolments.invitations.join(ID, csr)
    expect(await refusal(enrolments.invitations.join(ID, await hostCsr()))).to.include(
      'used already, with another key',
    )
    await enrolments.invitations.joined(ID)
    expect(await refusal(enrolments.invitations.join(ID, csr))).to.include('used or withdrawn')
    await enrolments.removeUsers()
    expect(users).to.deep.equal(new Set([agentUser(AGENT)]))
    expect(await refusal(enrolments.invitations.join(ID, csr))).to.include('is not valid')
  })

  it('are of no use for another name, and none is used up by that', async () => {
    await invite()
    const other = await csrOf(makePrivateKey(), 'howdah-target-db-8')
    expect(await refusal(enrolments.invitations.join(ID, other))).to.include('must be CN=howdah-target-db-7')
    await enrolments.invitations.join(ID, await hostCsr())
  })

  it('expire, and their user is removed then, also by a coordinator that was started since', async () => {
    const { expiresAt } = await invite()
    expect(Date.parse(expiresAt) - now).to.be.within(899_000, 900_000)
    await enrolments.removeUsers()
    expect(users).to.include(invitedUser(ID))
    now += 900_001
    expect(await refusal(enrolments.invitations.join(ID, await hostCsr()))).to.include('expired at')
    failure = new HowdahError('broker_unavailable', 'the management API is away')
    expect(await refusal(enrolments.removeUsers())).to.include('away')
    await reopen()
    failure = undefined
    await enrolments.removeUsers()
    expect(users).to.deep.equal(new Set())
  })

  it('are withdrawn by a later one and by a revocation', async () => {
    await invite()
    const later = 'fedcba9876543210'
    await invite(later)
    expect(users).to.deep.equal(new Set([invitedUser(later)]))
    expect(await refusal(enrolments.invitations.join(ID, await hostCsr()))).to.include(
      'replaced by a later one',
    )
    await enrolments.revoke(AGENT)
    expect(await refusal(enrolments.invitations.join(later, await hostCsr()))).to.include('used or withdrawn')
    await enrolments.removeUsers()
    expect(users).to.deep.equal(new Set())
  })

  it('of a revoked agent need "again", and enrol it anew', async () => {
    await enrolments.revoke(AGENT)
    expect(await refusal(invite())).to.include('was revoked')
    await invite(ID, true)
    const { wasRevoked } = await enrolments.invitations.join(ID, await hostCsr())
    expect(wasRevoked).to.equal(true)
    expect(enrolments.isRevoked(AGENT)).to.equal(false)
    expect(users).to.include(agentUser({ ...AGENT, enrolment: 2 }))
  })

  it('make nothing usable while the management API is away, and can be repeated', async () => {
    failure = new HowdahError('broker_unavailable', 'the management API is away')
    expect(await refusal(invite())).to.include('away')
    failure = undefined
    await invite()
    failure = new HowdahError('broker_unavailable', 'the management API is away')
    const csr = await hostCsr()
    expect(await refusal(enrolments.invitations.join(ID, csr))).to.include('away')
    failure = undefined
    await enrolments.invitations.join(ID, csr)
  })
})
