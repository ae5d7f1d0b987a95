/**
 * Invitations: a host joins the fleet by itself, as one agent, once. Whoever holds the private key of an invitation logs in
 * at the broker as a user that may do nothing but join. What was decided is in the enrolment of the agent.
 *
 * The first key that joins is the only one: it may ask again, since the answer may be lost, until it says that the
 * certificate has come or the invitation expires. Everything may be repeated after it failed or the process died.
 */
import { createHash, X509Certificate } from 'node:crypto'
import type { Logger } from 'pino'
import { HowdahError } from '../messages/errors.ts'
import type { AgentAddress } from '../messages/topology.ts'
import type { CertifyRequest, SignedCertificate } from './certification.ts'
import type { Clock } from './clock.ts'
import type { Authority } from './fleet/authority/authority.ts'
import type { AgentUsers } from './fleet/broker-users/agent-users.ts'
import type { Enrolment } from './store/store.ts'

export interface InviteRequest extends CertifyRequest {
  /** The id, which names the user. */
  readonly invitation: string
  readonly ttlSeconds: number
}

export interface Invited extends SignedCertificate {
  readonly expiresAt: string
}

export interface Joined {
  readonly agent: AgentAddress
  readonly signed: SignedCertificate
  /** Whether the agent was revoked until now. */
  readonly wasRevoked: boolean
}

export interface Invitations {
  /** An earlier invitation of the agent is of no use any more. @throws HowdahError as `Enrolments.certify` */
  invite(agent: AgentAddress, request: InviteRequest): Promise<Invited>
  /** @throws HowdahError `unauthorized` when there is no such invitation, or another key has joined by it */
  join(invitation: string, csr: string): Promise<Joined>
  /** The certificate has arrived: nobody joins by this invitation any more. */
  joined(invitation: string): Promise<void>
  /** Removes the users of invitations that are of no use any more, whose connections end with that. */
  removeUsers(): Promise<void>
}

/** What invitations need of the enrolments, to which they belong. */
export interface InvitationsOptions {
  readonly all: () => Iterable<Enrolment>
  readonly exclusive: <T>(agent: AgentAddress, work: (known: Enrolment) => Promise<T>) => Promise<T>
  readonly save: (enrolment: Enrolment) => Promise<void>
  readonly enrol: (known: Enrolment, request: CertifyRequest) => Promise<SignedCertificate>
  /** @throws HowdahError `certificate_revoked` when the agent was revoked and is not to be enrolled again */
  readonly refuseRevoked: (known: Enrolment, again: boolean) => void
  readonly authority: () => Authority
  readonly users: () => AgentUsers
  readonly now: Clock
  readonly logger: Logger
}

const INVITE = 'An operator makes another one with "howdah agent invite".'

export function createInvitations(options: InvitationsOptions): Invitations {
  const { all, exclusive, save, enrol, refuseRevoked, authority, users, now, logger } = options

  /** Runs `work` with the enrolment that the invitation belongs to. */
  async function ofInvitation<T>(
    invitation: string,
    work: (known: Enrolment, found: NonNullable<Enrolment['invitation']>) => Promise<T>,
  ): Promise<T> {
    const agent = [...all()].find((one) => one.invitation?.id === invitation)
    const unknown = () =>
      new HowdahError(
        'unauthorized',
        `the invitation ${invitation} is not valid: it was used, withdrawn or replaced by a later one. ${INVITE}`,
      )
    if (agent === undefined) throw unknown()
    return exclusive(agent, async (known) => {
      const found = known.invitation
      if (found?.id !== invitation) throw unknown()
      return work(known, found)
    })
  }

  function requireUsable({ id, spent, expiresAt }: NonNullable<Enrolment['invitation']>): void {
    if (spent) throw new HowdahError('unauthorized', `the invitation ${id} was used or withdrawn. ${INVITE}`)
    if (Date.parse(expiresAt) > now()) return
    throw new HowdahError('unauthorized', `the invitation ${id} expired at ${expiresAt}. ${INVITE}`)
  }

  return {
    invite: (agent, { invitation: id, csr, ttlSeconds, addresses, again }) =>
      exclusive(agent, async (known) => {
        refuseRevoked(known, again)
        const identity = { kind: 'invite', name: id, enrolment: 1, addresses: [] } as const
        const { certify, certificate: ca } = authority()
        const certificate = await certify(csr, identity, ttlSeconds * 1000)
        const expiresAt = new Date(new X509Certificate(certificate).validTo).toISOString()
        const before = known.invitation
        if (before && before.id !== id) await users().removeInvited(before.id)
        await users().addInvited(id)
        await save({ ...known, invitation: { id, expiresAt, addresses, again } })
        logger.info({ ...agent, invitation: id, expiresAt }, 'invited an agent')
        return { certificate, ca, expiresAt }
      }),

    join: (invitation, csr) =>
      ofInvitation(invitation, async (known, found) => {
        requireUsable(found)
        refuseRevoked(known, found.again)
        const key = await keyOf(csr)
        if (found.key !== undefined && found.key !== key) {
          throw new HowdahError(
            'unauthorized',
            `the invitation ${invitation} was used already, with another key: another host has joined by it as the ${known.kind} agent "${known.name}". If that was not you, "howdah agent revoke ${known.name}" shuts it out. ${INVITE}`,
          )
        }
        const signed = await enrol(
          { ...known, invitation: { ...found, key } },
          { csr, addresses: found.addresses, again: found.again },
        )
        const { kind, name, revoked: wasRevoked } = known
        return { agent: { kind, name }, signed, wasRevoked }
      }),

    joined: (invitation) =>
      ofInvitation(invitation, async (known, found) => {
        if (found.key === undefined) {
          throw new HowdahError('unauthorized', `nobody has joined by the invitation ${invitation} yet`)
        }
        await save({ ...known, invitation: { ...found, spent: true } })
        logger.info({ kind: known.kind, name: known.name, invitation }, 'an invited agent has joined')
      }),

    async removeUsers() {
      for (const enrolment of [...all()]) {
        if (!isOver(enrolment, now())) continue
        await exclusive(enrolment, async (known) => {
          if (known.invitation === undefined || !isOver(known, now())) return
          await users().removeInvited(known.invitation.id)
          const { invitation: _, ...rest } = known
          await save(rest)
        })
      }
    },
  }
}

function isOver({ invitation }: Enrolment, now: number): boolean {
  return invitation !== undefined && (invitation.spent === true || Date.parse(invitation.expiresAt) <= now)
}

/** SHA-256 of the public key of a request. @throws HowdahError `unauthorized` when it is none */
async function keyOf(csr: string): Promise<string> {
  const { publicKeyIn } = await import('./fleet/authority/certificate-request.ts')
  return createHash('sha256').update(publicKeyIn(csr)).digest('hex')
}
