/**
 * Whom a certificate of an agent names: the broker's user in its common name, which tells the agent and its enrolment.
 * What belongs to an earlier enrolment than the one that counts is revoked, whoever issued it and whenever. Pure.
 */
import { agentUser, type EnrolledAgent } from './permissions.ts'

/** The first enrolment of an agent that counts, by the user of its first one; of any other agent all count. */
export type Revocations = ReadonlyMap<string, number>

export function isRevoked({ kind, name, enrolment }: EnrolledAgent, revocations: Revocations): boolean {
  return enrolment < (revocations.get(agentUser({ kind, name })) ?? 1)
}

/** The name in a mount server's certificate that clients of the data plane verify; they know the agent's name only. */
export function mountServerName(agent: string): string {
  return `${agent}.mount.howdah`
}
