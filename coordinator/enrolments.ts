/**
 * Which agents are enrolled, and which are revoked. Owns the decisions in the store and what follows from them at the
 * broker; the certificates themselves are signed by the authority, and what sessions and mount agents do about a
 * revocation is the caller's.
 *
 * Every operation may be repeated after it failed or the process died in the middle. An agent is made first at the broker
 * and then certified: without its certificate nobody can be that user. A revocation is saved first, and what of it could
 * not be done is done later.
 */
import type { Logger } from 'pino'
import type { RevocationList } from '../messages/enrolment.ts'
import { HowdahError } from '../messages/errors.ts'
import { agentUser, type EnrolledAgent } from '../messages/permissions.ts'
import type { AgentAddress } from '../messages/topology.ts'
import type { CertifyRequest, SignedCertificate } from './certification.ts'
import type { Clock } from './clock.ts'
import type { Authority } from './fleet/authority/authority.ts'
import type { AgentUsers } from './fleet/broker-users/agent-users.ts'
import { createInvitations, type Invitations } from './invitations.ts'
import { createLocks } from './locks.ts'
import type { Enrolment, Store } from './store/store.ts'

export interface Enrolments {
  /** @throws HowdahError `configuration` | `certificate_revoked` | `unauthorized` | `broker_unavailable` */
  certify(agent: AgentAddress, request: CertifyRequest): Promise<SignedCertificate>
  /** Another certificate for an agent that is not revoked. @throws as `certify` */
  renew(agent: EnrolledAgent, csr: string): Promise<SignedCertificate>
  /** Resolves when the decision is saved. @throws HowdahError `configuration` when users are made by hand */
  revoke(agent: AgentAddress): Promise<void>
  /** Whether an agent is shut out now. */
  isRevoked(agent: AgentAddress): boolean
  /** Whether a user of an agent belongs to an enrolment that does not count any more. */
  isPast(user: EnrolledAgent): boolean
  /** For mount agents. */
  readonly revocations: RevocationList
  /** Reads what other coordinators decided. */
  refresh(): Promise<void>
  /** Of hosts that join by themselves. */
  readonly invitations: Pick<Invitations, 'invite' | 'join' | 'joined'>
  /** Removes the users of those who were revoked, and of invitations that are over, whose connections end with that. @throws HowdahError `broker_unavailable` | `unauthorized` */
  removeUsers(): Promise<void>
}

export interface EnrolmentsOptions {
  readonly store: Pick<Store, 'enrolments' | 'saveEnrolment'>
  /** Undefined: agents are not enrolled here. */
  readonly authority: Authority | undefined
  /** Undefined: users of the broker are made by hand. */
  readonly users: AgentUsers | undefined
  readonly lifetimeMs: number
  readonly logger: Logger
  readonly now: Clock
}

export async function openEnrolments(options: EnrolmentsOptions): Promise<Enrolments> {
  const { store, lifetimeMs, logger, now } = options
  const enrolments = new Map<string, Enrolment>()
  const locks = createLocks()

  async function refresh(): Promise<void> {
    for (const enrolment of await store.enrolments()) enrolments.set(key(enrolment), enrolment)
  }
  await refresh()

  async function save(enrolment: Enrolment): Promise<void> {
    await store.saveEnrolment(enrolment)
    enrolments.set(key(enrolment), enrolment)
  }

  function authority(): Authority {
    if (options.authority) return options.authority
    throw new HowdahError(
      'configuration',
      'this coordinator enrols no agents: it has no authority.directory; "howdah authority init" makes an authority',
    )
  }

  function users(): AgentUsers {
    if (options.users) return options.users
    throw new HowdahError(
      'configuration',
      'this coordinator makes and removes no users at the broker: it has no broker.management',
    )
  }

  async function sign(enrolment: Enrolment, csr: string): Promise<SignedCertificate> {
    const { certify, certificate: ca } = authority()
    return { certificate: await certify(csr, enrolment, lifetimeMs), ca }
  }

  function refuse({ kind, name }: AgentAddress): never {
    throw new HowdahError(
      'certificate_revoked',
      `the ${kind} agent "${name}" was revoked; "howdah agent install --again" enrols it again`,
      { field: 'name' },
    )
  }

  /** Removes the user of the enrolment before. */
  async function removeUser(known: Enrolment): Promise<void> {
    await users().remove({ ...known, enrolment: known.enrolment - 1 })
    await save({ ...known, userRemains: false })
  }

  const first = ({ kind, name }: AgentAddress): Enrolment => ({
    ...{ kind, name, addresses: [] },
    ...{ enrolment: 1, revoked: false, userRemains: false },
  })
  const exclusive = <T>({ kind, name }: AgentAddress, work: (known: Enrolment) => Promise<T>): Promise<T> => {
    const user = key({ kind, name })
    return locks.exclusive(user, () => work(enrolments.get(user) ?? first({ kind, name })))
  }

  function refuseRevoked(known: Enrolment, again: boolean): void {
    if (known.revoked && !again) refuse(known)
  }

  async function enrol(known: Enrolment, request: CertifyRequest): Promise<SignedCertificate> {
    const { csr, addresses, again } = request
    refuseRevoked(known, again)
    const enrolment: Enrolment = { ...known, addresses, revoked: false }
    // What cannot be signed makes no user.
    const signed = await sign(enrolment, csr)
    await users().add(enrolment)
    await save(enrolment)
    logger.info({ ...enrolment, invitation: enrolment.invitation?.id }, 'enrolled an agent')
    return signed
  }

  const invitations = createInvitations({
    ...{ all: () => enrolments.values(), exclusive, save, enrol, refuseRevoked },
    ...{ authority, users, now, logger },
  })

  return {
    invitations,

    certify: (agent, request) => exclusive(agent, (known) => enrol(known, request)),

    renew: (agent, csr) =>
      exclusive(agent, async (known) => {
        if (known.revoked || known.enrolment !== agent.enrolment) refuse(known)
        const signed = await sign(known, csr)
        logger.info(agent, 'renewed the certificate of an agent')
        return signed
      }),

    revoke: (agent) =>
      exclusive(agent, async (known) => {
        users()
        if (known.revoked) return
        const { invitation } = known
        await save({
          ...{ ...known, enrolment: known.enrolment + 1, revoked: true, userRemains: true },
          ...(invitation && { invitation: { ...invitation, spent: true } }),
        })
        logger.warn(agent, 'revoked an agent')
      }),

    isRevoked: (agent) => enrolments.get(key(agent))?.revoked ?? false,

    isPast: (agent) => agent.enrolment < (enrolments.get(key(agent))?.enrolment ?? 1),

    get revocations() {
      const revoked = [...enrolments.values()].filter(({ enrolment }) => enrolment > 1)
      return {
        // Grows with each revocation.
        version: revoked.reduce((sum, { enrolment }) => sum + enrolment - 1, 0),
        revoked: revoked.map((one) => ({ user: key(one), before: one.enrolment })),
      }
    },

    refresh,

    async removeUsers() {
      for (const agent of [...enrolments.values()].filter(({ userRemains }) => userRemains)) {
        await exclusive(agent, async (known) => {
          if (known.userRemains) await removeUser(known)
        })
      }
      await invitations.removeUsers()
    },
  }
}

/** The user of an agent in its first enrolment. */
function key({ kind, name }: AgentAddress): string {
  return agentUser({ kind, name })
}
