/**
 * Who may do what on the broker: one user per agent and client, with the least that it needs. Pure.
 *
 * A user's permissions are regular expressions on names, matched by RabbitMQ: `configure` to declare and delete, `write` to
 * publish to an exchange or to bind a queue, `read` to consume a queue or to bind to an exchange. A topic permission
 * narrows what may be written to a topic exchange, or bound to it, by the routing key.
 * Source: https://www.rabbitmq.com/docs/access-control
 */
import {
  type AgentAddress,
  agentLock,
  agentQueue,
  agentRoutingKey,
  CLIENT_REPLY_PREFIX,
  COMMANDS_EXCHANGE,
  DEAD_EXCHANGE,
  EVENTS_EXCHANGE,
  REPLIES_EXCHANGE,
  WATCH_PREFIX,
} from './topology.ts'

/** Regular expressions; `^$` matches no name. */
export interface UserPermissions {
  readonly user: string
  readonly configure: string
  readonly write: string
  readonly read: string
  /** On routing keys of `howdah.events`; undefined: all that `write` and `read` allow. */
  readonly events?: { readonly write: string; readonly read: string }
}

const NOTHING = '^$'
/** Names that RabbitMQ gives to queues that are declared without a name. */
const SERVER_NAMED_PREFIX = 'amq.gen-'

/** The broker's user for an agent. */
export function agentUser({ kind, name }: AgentAddress): string {
  return `howdah-${kind}-${name}`
}

export const COORDINATOR_USER = 'howdah-coordinator'

export function clientUser(name: string): string {
  return `howdah-client-${name}`
}

/** The user of a client that may also enrol and revoke agents. */
export function operatorUser(name: string): string {
  return `howdah-operator-${name}`
}

/** Whether a user belongs to one agent or client, and not to several. */
export function belongsToOne(user: string): boolean {
  return /^howdah-(mount|target|client|operator)-/.test(user)
}

/** Whether a user may enrol and revoke agents. A user that all processes share, and any without a name of ours, may. */
export function isOperator(user: string): boolean {
  return !belongsToOne(user) || user.startsWith(operatorUser(''))
}

/** An agent consumes its own queue, holds its lock, and reports under its own name. */
export function agentPermissions(agent: AgentAddress): UserPermissions {
  return {
    user: agentUser(agent),
    configure: exactly(agentLock(agent)),
    write: exactly(EVENTS_EXCHANGE.name, REPLIES_EXCHANGE.name, DEAD_EXCHANGE.name),
    read: exactly(agentQueue(agent).name),
    events: { write: `^agent\\.${literally(agentRoutingKey(agent))}\\.`, read: NOTHING },
  }
}

/** A client sends commands, and has queues of its own for replies and for what the coordinator publishes. */
export function clientPermissions(name: string): UserPermissions {
  const own = [CLIENT_REPLY_PREFIX, WATCH_PREFIX, SERVER_NAMED_PREFIX].map(
    (prefix) => `${literally(prefix)}.*`,
  )
  return {
    user: clientUser(name),
    configure: `^(${own.join('|')})$`,
    write: `^(${[literally(COMMANDS_EXCHANGE.name), ...own].join('|')})$`,
    read: `^(${[literally(EVENTS_EXCHANGE.name), ...own].join('|')})$`,
    events: { write: NOTHING, read: '^session\\.' },
  }
}

/** The coordinator declares everything, and answers clients through the default exchange. */
export const COORDINATOR_PERMISSIONS: UserPermissions = {
  user: COORDINATOR_USER,
  configure: '^howdah\\.',
  write: '^(howdah\\..*|amq\\.default)$',
  read: '^howdah\\.',
}

function exactly(...names: string[]): string {
  return `^(${names.map(literally).join('|')})$`
}

function literally(name: string): string {
  return name.replaceAll('.', '\\.')
}
