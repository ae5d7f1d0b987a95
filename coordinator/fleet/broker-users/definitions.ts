/**
 * The definitions document of a broker for Howdah: users, permissions, policies, exchanges, queues and bindings, in the
 * format that `rabbitmqctl import_definitions` and the management API import. Pure but for the salt of the hashes.
 * Source: https://www.rabbitmq.com/docs/definitions and https://www.rabbitmq.com/docs/passwords
 */
import { createHash, randomBytes } from 'node:crypto'
import {
  agentPermissions,
  COORDINATOR_PERMISSIONS,
  clientPermissions,
  MANAGEMENT_USER,
  operatorPermissions,
  type UserPermissions,
} from '../../../messages/permissions.ts'
import { POLICIES } from '../../../messages/policies.ts'
import {
  type AgentAddress,
  AUDIT,
  agentQueue,
  COORDINATOR_QUEUES,
  EXCHANGES,
  type Queue,
} from '../../../messages/topology.ts'

export interface SetupRequest {
  readonly vhost: string
  readonly agents: readonly AgentAddress[]
  readonly clients: readonly string[]
  /** Clients that may also enrol and revoke agents. */
  readonly operators: readonly string[]
}

/** Of everybody who is set up: the coordinator, the agents, the clients, the operators. */
export function usersOf({ agents, clients, operators }: SetupRequest): UserPermissions[] {
  return [
    COORDINATOR_PERMISSIONS,
    ...agents.map(agentPermissions),
    ...clients.map(clientPermissions),
    ...operators.map(operatorPermissions),
  ]
}

export interface Passwords {
  /** By user; who has none logs in by certificate only. */
  readonly users: ReadonlyMap<string, string>
  /** Of the user with whom the coordinator uses the management API; undefined: there is none. */
  readonly management?: string | undefined
}

/** @returns the document, ready for `JSON.stringify` */
export function brokerDefinitions(request: SetupRequest, passwords: Passwords): object {
  const { vhost, agents } = request
  const users = usersOf(request)
  const queues = [...COORDINATOR_QUEUES, AUDIT, ...agents.map(agentQueue)]
  return {
    vhosts: [{ name: vhost }],
    users: [
      ...users.map(({ user }) => {
        const password = passwords.users.get(user)
        return password === undefined ? userWithoutPassword(user) : userWithPassword(user, password, '')
      }),
      ...(passwords.management === undefined
        ? []
        : [userWithPassword(MANAGEMENT_USER, passwords.management, 'administrator')]),
    ],
    ...permissionsOf(users, vhost),
    policies: POLICIES.map(({ name, pattern, definition }) => ({
      ...{ vhost, name, pattern, definition },
      ...{ 'apply-to': 'queues', priority: 1 },
    })),
    exchanges: EXCHANGES.map((exchange) => ({
      ...{ name: exchange.name, vhost, type: exchange.type },
      ...{ durable: true, auto_delete: false, internal: false },
      arguments: 'alternate' in exchange ? { 'alternate-exchange': exchange.alternate.name } : {},
    })),
    queues: queueDefinitions(queues, vhost),
    bindings: bindingsOf(queues, vhost),
  }
}

export function permissionsOf(users: readonly UserPermissions[], vhost: string) {
  return {
    permissions: users.map(({ user, configure, write, read }) => ({ user, vhost, configure, write, read })),
    topic_permissions: users.flatMap(({ user, topics }) =>
      topics.map(({ exchange, write, read }) => ({ user, vhost, exchange: exchange.name, write, read })),
    ),
  }
}

export function queueDefinitions(queues: readonly Queue[], vhost: string) {
  return queues.map(({ name, arguments: args }) => ({
    ...{ name, vhost, durable: true, auto_delete: false },
    arguments: args,
  }))
}

export function bindingsOf(queues: readonly Queue[], vhost: string) {
  return queues.flatMap(({ name, bindings }) =>
    bindings.map(({ exchange, pattern }) => ({
      ...{ source: exchange.name, vhost, destination: name },
      ...{ destination_type: 'queue', routing_key: pattern, arguments: {} },
    })),
  )
}

const HASHING = { hashing_algorithm: 'rabbit_password_hashing_sha256' } as const

/** RabbitMQ lets nobody log in with an empty hash but by certificate. */
export function userWithoutPassword(user: string) {
  return { name: user, password_hash: '', ...HASHING, tags: '' }
}

function userWithPassword(user: string, password: string, tags: string) {
  return { name: user, password_hash: passwordHash(password), ...HASHING, tags }
}

/** Base64 of a salt of four bytes and SHA-256 over salt and password, as RabbitMQ keeps it. */
function passwordHash(password: string): string {
  const salt = randomBytes(4)
  const digest = createHash('sha256').update(salt).update(password, 'utf8').digest()
  return Buffer.concat([salt, digest]).toString('base64')
}
