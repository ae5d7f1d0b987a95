/**
 * Who may do what on the broker: one user per agent and client, with the least that it needs. Pure.
 *
 * A user's permissions are regular expressions on names, matched by RabbitMQ: `configure` to declare and delete, `write` to
 * publish to an exchange or to bind a queue, `read` to consume a queue or to bind to an exchange. A topic permission
 * narrows what may be written to a topic exchange, or bound to it, by the routing key.
 * Source: https://www.rabbitmq.com/docs/access-control
 */
import {
  AGENTS_EXCHANGE,
  type AgentAddress,
  AUDIT,
  agentLock,
  agentQueue,
  agentRoutingKey,
  CLIENT_REPLY_PREFIX,
  COMMANDS_EXCHANGE,
  DEAD_EXCHANGE,
  DEAD_LETTERS,
  DEAD_LETTERS_LOCK,
  EVENTS_EXCHANGE,
  type Exchange,
  REPLIES_EXCHANGE,
  WATCH_PREFIX,
} from './topology.ts'

/** Regular expressions; `^$` matches no name. */
export interface UserPermissions {
  readonly user: string
  readonly configure: string
  readonly write: string
  readonly read: string
  /** On the routing keys of topic exchanges; of any other exchange all that `write` and `read` allow. */
  readonly topics: readonly TopicPermission[]
}

export interface TopicPermission {
  readonly exchange: Exchange
  readonly write: string
  readonly read: string
}

const NOTHING = '^$'
/** Names that RabbitMQ gives to queues that are declared without a name. */
const SERVER_NAMED_PREFIX = 'amq.gen-'

/** An agent as the broker and the data plane know it. */
export interface EnrolledAgent extends AgentAddress {
  /** From 1. Each revocation begins another one, so that nobody can be again who was shut out. */
  readonly enrolment: number
}

/** The broker's user for an agent, which the common name of its certificate names: `howdah-target-db-7`, `….2` for its second enrolment. */
export function agentUser({ kind, name, enrolment = 1 }: AgentAddress & Partial<EnrolledAgent>): string {
  return `howdah-${kind}-${name}${enrolment === 1 ? '' : `.${enrolment}`}`
}

/** The agent whose user it is; undefined: it is no agent's. */
export function agentOfUser(user: unknown): EnrolledAgent | undefined {
  const [, kind, name, enrolment = '1'] =
    /^howdah-(mount|target)-([A-Za-z0-9_-]{1,63})(?:\.([1-9][0-9]{0,8}))?$/.exec(String(user)) ?? []
  if (name === undefined) return undefined
  return { kind: kind as AgentAddress['kind'], name, enrolment: Number(enrolment) }
}

export const COORDINATOR_USER = 'howdah-coordinator'
/** With whom the coordinator uses the management API; the only one that has a password where all others have certificates. */
export const MANAGEMENT_USER = 'howdah-management'

export function clientUser(name: string): string {
  return `howdah-client-${name}`
}

/** The user of a client that may also enrol and revoke agents. */
export function operatorUser(name: string): string {
  return `howdah-operator-${name}`
}

/** Whether a user belongs to one agent or client, and not to several. */
export function belongsToOne(user: string): boolean {
  return /^howdah-(mount|target|client|operator|invite)-/.test(user)
}

/** Whether a user may enrol and revoke agents. A user that all processes share, and any without a name of ours, may. */
export function isOperator(user: string): boolean {
  return !belongsToOne(user) || user.startsWith(operatorUser(''))
}

/** An agent consumes its own queue, holds its lock, and reports under its own name. */
export function agentPermissions(agent: AgentAddress & Partial<EnrolledAgent>): UserPermissions {
  return {
    user: agentUser(agent),
    configure: exactly(agentLock(agent)),
    write: exactly(EVENTS_EXCHANGE.name, REPLIES_EXCHANGE.name, DEAD_EXCHANGE.name),
    read: exactly(agentQueue(agent).name),
    topics: [
      {
        ...{ exchange: EVENTS_EXCHANGE, read: NOTHING },
        write: `^agent\\.${literally(agentRoutingKey(agent))}\\.`,
      },
    ],
  }
}

/** Commands by which agents come into the fleet and leave it. */
export const OPERATORS_COMMANDS = ['agent.certify', 'agent.invite', 'agent.revoke'] as const

/** A client sends commands, and has queues of its own for replies and for what the coordinator publishes. */
export function clientPermissions(name: string): UserPermissions {
  const others = OPERATORS_COMMANDS.map(literally).join('|')
  return commanding(clientUser(name), `^(?!(${others})$)`)
}

/** The user of whoever has an invitation: a host on its way into the fleet. */
export function invitedUser(invitation: string): string {
  return `howdah-invite-${invitation}`
}

/** The invitation whose user it is; undefined: it is no invitation's. */
export function invitationOfUser(user: unknown): string | undefined {
  return /^howdah-invite-([0-9a-f]{16})$/.exec(String(user))?.[1]
}

/** Who is invited asks for a certificate and says that it has come, is answered by direct reply-to, and does nothing else. */
export function invitedPermissions(invitation: string): UserPermissions {
  return {
    user: invitedUser(invitation),
    configure: NOTHING,
    write: exactly(COMMANDS_EXCHANGE.name),
    read: NOTHING,
    topics: [{ exchange: COMMANDS_EXCHANGE, write: exactly('agent.join', 'agent.joined'), read: NOTHING }],
  }
}

/**
 * An operator is a client that may send every command, read the audit stream, and look after dead letters: to send one
 * again it may publish to where commands, steps and reports go.
 */
export function operatorPermissions(name: string): UserPermissions {
  return commanding(operatorUser(name), '.*', {
    configure: [DEAD_LETTERS_LOCK],
    write: [EVENTS_EXCHANGE.name, AGENTS_EXCHANGE.name],
    read: [AUDIT.name, DEAD_LETTERS.name],
    events: '^agent\\.',
  })
}

interface More {
  /** Names. */
  readonly configure: readonly string[]
  readonly write: readonly string[]
  readonly read: readonly string[]
  /** Regular expression of the events that it may publish. */
  readonly events: string
}

const NO_MORE: More = { configure: [], write: [], read: [], events: NOTHING }

/** @param commands regular expression of the commands that the user may send */
function commanding(user: string, commands: string, more = NO_MORE): UserPermissions {
  const own = [CLIENT_REPLY_PREFIX, WATCH_PREFIX, SERVER_NAMED_PREFIX].map(
    (prefix) => `${literally(prefix)}.*`,
  )
  const allowed = (names: readonly string[]) => `^(${[...names.map(literally), ...own].join('|')})$`
  return {
    user,
    configure: allowed(more.configure),
    write: allowed([COMMANDS_EXCHANGE.name, ...more.write]),
    read: allowed([EVENTS_EXCHANGE.name, ...more.read]),
    topics: [
      { exchange: EVENTS_EXCHANGE, write: more.events, read: '^session\\.' },
      { exchange: COMMANDS_EXCHANGE, write: commands, read: NOTHING },
    ],
  }
}

/** The coordinator declares everything, and answers clients through the default exchange. */
export const COORDINATOR_PERMISSIONS: UserPermissions = {
  user: COORDINATOR_USER,
  configure: '^howdah\\.',
  write: '^(howdah\\..*|amq\\.default)$',
  read: '^howdah\\.',
  topics: [],
}

function exactly(...names: string[]): string {
  return `^(${names.map(literally).join('|')})$`
}

function literally(name: string): string {
  return name.replaceAll('.', '\\.')
}
