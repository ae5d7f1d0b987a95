/**
 * Whether an agent may report what it reports. The routing key of a report names its sender, and RabbitMQ binds it to the
 * sender's user (messages/permissions.ts); a session belongs to the agents that its steps are sent to.
 */
import type { ReportDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { agentOfUser, type EnrolledAgent, isOperator } from '../../messages/permissions.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { Enrolments } from '../enrolments.ts'
import type { Session } from '../session.ts'
import { stepAgent } from '../step-command.ts'

/**
 * Refuses a report in the name of another agent. Operators, who send dead letters again, and users that do not have the
 * name of an agent, such as one that all processes share, are bound by the broker's topic permissions alone.
 * @throws HowdahError `unauthorized`
 */
export function requireOwnName(
  { type, sender, userId }: ReportDelivery,
  enrolments: Pick<Enrolments, 'isPast'>,
): void {
  if (userId === undefined) throw new HowdahError('unauthorized', `${type} comes without user_id`)
  if (isOperator(userId)) return
  const agent = agentOfUser(userId)
  if (agent?.kind !== sender.kind || agent.name !== sender.name) {
    throw new HowdahError('unauthorized', `${type} of ${nameOf(sender)} comes from the user "${userId}"`)
  }
  if (enrolments.isPast(agent)) {
    throw new HowdahError('unauthorized', `${type} comes from the user "${userId}", who was revoked`)
  }
}

/**
 * The agent whose user sent a report, where only that one will do.
 * @throws HowdahError `configuration` when it is a user whom several processes share
 */
export function ownUser({ type, userId }: ReportDelivery): EnrolledAgent {
  const agent = agentOfUser(userId)
  if (agent) return agent
  throw new HowdahError(
    'configuration',
    `${type} comes from the user "${userId}", which is not an agent's own: "howdah agent install" enrols it`,
  )
}

/** Refuses a report on a session of other agents. @throws HowdahError `unauthorized` */
export function requireOwner(session: Session, report: ReportDelivery): void {
  const { sender, type } = report
  const owners = ownersOf(session, report)
  if (owners.some(({ kind, name }) => kind === sender.kind && name === sender.name)) return
  throw new HowdahError(
    'unauthorized',
    `${type} of session ${session.id} comes from ${nameOf(sender)}, and belongs to ${owners.map(nameOf).join(' or ')}`,
  )
}

function ownersOf(session: Session, { type, body }: ReportDelivery): AgentAddress[] {
  const target = stepAgent(session, 'mount')
  if ('step' in body) return [stepAgent(session, body.step)]
  return type === 'session.findings' ? [target, stepAgent(session, 'resolve')] : [target]
}

function nameOf({ kind, name }: AgentAddress): string {
  return `the ${kind} agent "${name}"`
}
