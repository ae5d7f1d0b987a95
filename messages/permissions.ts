/**
 * Who may do what on the broker: one user per agent and client, with the least that it needs. Pure.
 *
 * A user's permissions are regular expressions on names, matched by RabbitMQ: `configure` to declare, `write` to publish
 * to an exchange or to bind a queue, `read` to consume a queue or to bind to an exchange. A topic permission narrows what
 * may be written to, or bound to, a topic exchange, by the routing key.
 * Source: https://www.rabbitmq.com/docs/access-control
 */
import type { AgentAddress } from './topology.ts'

/** The broker's user for an agent. */
export function agentUser({ kind, name }: AgentAddress): string {
  return `howdah-${kind}-${name}`
}

/** Whether a user has the name of some agent. */
export function isAgentUser(user: string): boolean {
  return /^howdah-(mount|target)-/.test(user)
}
