/** Commands by which agents come into the fleet and are shut out of it: of operators, and of hosts that were invited. */
import type { CommandDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { invitationOfUser, isOperator } from '../../messages/permissions.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import { agentEnrolled, agentRevoked } from '../transitions.ts'
import { answerOf, earlierReply } from './command-answers.ts'
import type { CommandContext, CommandHandlers } from './command-handlers.ts'

type Certified = { accepted: true; certificate: string; ca: string }
type Invited = Certified & { expiresAt: string }
type Revoked = { accepted: true; sessions: string[] }

type EnrolCommand = 'agent.certify' | 'agent.revoke' | 'agent.invite' | 'agent.join' | 'agent.joined'

export function enrolCommands(context: CommandContext): CommandHandlers<EnrolCommand> {
  const { store, registry, conductor, enrolments } = context

  async function keep<Reply extends object>(delivery: CommandDelivery, reply: Reply): Promise<Reply> {
    if (await store.saveAnswer(answerOf(delivery, reply))) return reply
    return ((await earlierReply(store, delivery)) ?? reply) as Reply
  }

  /** Of a mount agent none: what is mounted already does not need it to be believed. */
  const sessionsOf = async (agent: AgentAddress): Promise<string[]> =>
    agent.kind === 'target' ? store.sessionsOf(agent) : []

  /** An agent that was revoked has sessions again. */
  async function welcome(agent: AgentAddress): Promise<void> {
    for (const session of await sessionsOf(agent)) await conductor.change(session, agentEnrolled)
  }

  return {
    async 'agent.certify'({ kind, name, csr, addresses = [], again = false }, delivery) {
      requireOperator(delivery)
      const wasRevoked = enrolments.isRevoked({ kind, name })
      const signed = await enrolments.certify({ kind, name }, { csr, addresses, again })
      if (wasRevoked) await welcome({ kind, name })
      const reply: Certified = { accepted: true, ...signed }
      return keep(delivery, reply)
    },

    async 'agent.invite'({ kind, name, addresses = [], again = false, ...invitation }, delivery) {
      requireOperator(delivery)
      const request = { ...invitation, addresses, again }
      const reply: Invited = {
        accepted: true,
        ...(await enrolments.invitations.invite({ kind, name }, request)),
      }
      return keep(delivery, reply)
    },

    async 'agent.join'({ csr }, delivery) {
      const { agent, signed, wasRevoked } = await enrolments.invitations.join(
        requireInvitation(delivery),
        csr,
      )
      if (wasRevoked) await welcome(agent)
      const reply: Certified = { accepted: true, ...signed }
      return keep(delivery, reply)
    },

    async 'agent.joined'(_, delivery) {
      await enrolments.invitations.joined(requireInvitation(delivery))
      return keep(delivery, { accepted: true as const })
    },

    /** All of it is done although a part fails; the first failure is the answer, and the same command finishes it. */
    async 'agent.revoke'({ kind, name }, delivery) {
      requireOperator(delivery)
      const agent = { kind, name }
      await enrolments.revoke(agent)
      const removed = await enrolments.removeUsers().then(
        () => undefined,
        (error: unknown) => error,
      )
      conductor.announceRevocations()
      await registry.offline(kind, name)
      const sessions = await sessionsOf(agent)
      for (const session of sessions) {
        await conductor.change(session, (latest) => agentRevoked(latest, agent))
      }
      if (removed instanceof HowdahError) {
        throw new HowdahError(
          removed.code,
          `the ${kind} agent "${name}" is revoked, and mount agents refuse it; but its user at the broker could not be removed yet, which is tried again every few seconds: ${removed.message}`,
          { cause: removed, retryable: true },
        )
      }
      if (removed !== undefined) throw removed
      const reply: Revoked = { accepted: true, sessions }
      return keep(delivery, reply)
    },
  }
}

/**
 * The broker lets nobody else send these commands (messages/permissions.ts), unless its users are older than that.
 * @throws HowdahError `unauthorized`
 */
function requireOperator({ type, userId }: CommandDelivery): void {
  if (userId !== undefined && isOperator(userId)) return
  throw new HowdahError(
    'unauthorized',
    `${type} comes from ${userId === undefined ? 'a sender without user_id' : `"${userId}"`}, and is for operators ("howdah broker setup --operator")`,
  )
}

/** @throws HowdahError `unauthorized` */
function requireInvitation({ type, userId }: CommandDelivery): string {
  const invitation = invitationOfUser(userId)
  if (invitation !== undefined) return invitation
  throw new HowdahError(
    'unauthorized',
    `${type} comes from ${userId === undefined ? 'a sender without user_id' : `"${userId}"`}, and is for hosts with an invitation ("howdah agent join")`,
  )
}
