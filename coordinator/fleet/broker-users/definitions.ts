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
  type UserPermissions,
} from '../../../messages/permissions.ts'
import { POLICIES } from '../../../messages/policies.ts'
import {
  type AgentAddress,
  agentQueue,
  COORDINATOR_QUEUES,
  EVENTS_EXCHANGE,
  EXCHANGES,
} from '../../../messages/topology.ts'

export interface SetupRequest {
  readonly vhost: string
  readonly agents: readonly AgentAddress[]
  readonly clients: readonly string[]
}

/** Of everybody who is set up: the coordinator, the agents, the clients. */
export function usersOf({ agents, clients }: SetupRequest): UserPermissions[] {
  return [COORDINATOR_PERMISSIONS, ...agents.map(agentPermissions), ...clients.map(clientPermissions)]
}

/** @param passwords by user name. @returns the document, ready for `JSON.stringify` */
export function brokerDefinitions(request: SetupRequest, passwords: ReadonlyMap<string, string>): object {
  const { vhost, agents } = request
  const users = usersOf(request)
  const queues = [...COORDINATOR_QUEUES, ...agents.map(agentQueue)]
  return {
    vhosts: [{ name: vhost }],
    users: users.map(({ user }) => ({
      name: user,
      password_hash: passwordHash(passwords.get(user) ?? ''),
      hashing_algorithm: 'rabbit_password_hashing_sha256',
      tags: '',
    })),
    permissions: users.map(({ user, configure, write, read }) => ({ user, vhost, configure, write, read })),
    topic_permissions: users.flatMap(({ user, events }) =>
      events ? [{ user, vhost, exchange: EVENTS_EXCHANGE.name, ...events }] : [],
    ),
    policies: POLICIES.map(({ name, pattern, definition }) => ({
      ...{ vhost, name, pattern, definition },
      ...{ 'apply-to': 'queues', priority: 1 },
    })),
    exchanges: EXCHANGES.map((exchange) => ({
      ...{ name: exchange.name, vhost, type: exchange.type },
      ...{ durable: true, auto_delete: false, internal: false },
      arguments: 'alternate' in exchange ? { 'alternate-exchange': exchange.alternate.name } : {},
    })),
    queues: queues.map(({ name, arguments: args }) => ({
      ...{ name, vhost, durable: true, auto_delete: false },
      arguments: args,
    })),
    bindings: queues.flatMap(({ name, bindings }) =>
      bindings.map(({ exchange, pattern }) => ({
        ...{ source: exchange.name, vhost, destination: name },
        ...{ destination_type: 'queue', routing_key: pattern, arguments: {} },
      })),
    ),
  }
}

/** Base64 of a salt of four bytes and SHA-256 over salt and password, as RabbitMQ keeps it. */
function passwordHash(password: string): string {
  const salt = randomBytes(4)
  const digest = createHash('sha256').update(salt).update(password, 'utf8').digest()
  return Buffer.concat([salt, digest]).toString('base64')
}
