/**
 * The broker's users of agents, which log in by certificate and have no password: made and removed while the fleet runs,
 * each with its permissions and its queue. Everything is safe to repeat.
 */
import { readFile } from 'node:fs/promises'
import { brokerAddresses } from '../../../messages/broker-address.ts'
import { HowdahError } from '../../../messages/errors.ts'
import {
  agentPermissions,
  agentUser,
  type EnrolledAgent,
  invitedPermissions,
  invitedUser,
  type UserPermissions,
} from '../../../messages/permissions.ts'
import { agentQueue, type Queue } from '../../../messages/topology.ts'
import { bindingsOf, permissionsOf, queueDefinitions, userWithoutPassword } from './definitions.ts'
import { importDefinitions, type Management, managementAt, removeUser } from './management.ts'

export interface AgentUsers {
  /** @throws HowdahError `broker_unavailable` | `unauthorized` | `configuration` */
  add(agent: EnrolledAgent): Promise<void>
  /** Its connections are closed; its queue stays, with what waits in it. It need not exist. @throws as `add` */
  remove(agent: EnrolledAgent): Promise<void>
  /** The user of an invitation. @throws as `add` */
  addInvited(invitation: string): Promise<void>
  /** It need not exist. @throws as `add` */
  removeInvited(invitation: string): Promise<void>
}

/** Of a request to the management API: who asked for it waits, too. */
const DEADLINE_MS = 15_000

export interface BrokerConfig {
  /** `amqp://…/VHOST`, of each node. */
  readonly urls: readonly string[]
  readonly ca: string | null
  readonly management: string | null
  readonly managementPasswordFile: string | null
}

/**
 * By what the configuration says of the management API; undefined: nothing.
 * @throws HowdahError `configuration` when its password is missing
 */
export function agentUsersOf(broker: BrokerConfig): AgentUsers | undefined {
  const { urls, ca, management, managementPasswordFile } = broker
  if (management === null) return undefined
  if (managementPasswordFile === null) {
    throw new HowdahError('configuration', 'broker.management needs broker.managementPasswordFile')
  }
  return createAgentUsers(
    async () => ({
      ...managementAt(new URL(management)),
      password: await readPassword(managementPasswordFile),
      ca: ca === null ? undefined : await readFile(ca),
      deadlineMs: DEADLINE_MS,
    }),
    decodeURIComponent(brokerAddresses(urls)[0].pathname.slice(1)) || '/',
  )
}

async function readPassword(file: string): Promise<string> {
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    (cause: Error) => {
      const message = `broker.managementPasswordFile: ${cause.message}`
      throw new HowdahError('configuration', message, { cause, retryable: true })
    },
  )
}

/** @param management called for each change, so that a password that was changed counts */
export function createAgentUsers(management: () => Promise<Management>, vhost: string): AgentUsers {
  async function add(user: UserPermissions, queues: readonly Queue[]): Promise<void> {
    // RabbitMQ carries it out in this order: a user without permissions can do nothing.
    await importDefinitions(await management(), {
      users: [userWithoutPassword(user.user)],
      ...permissionsOf([user], vhost),
      queues: queueDefinitions(queues, vhost),
      bindings: bindingsOf(queues, vhost),
    })
  }

  return {
    add: (agent) => add(agentPermissions(agent), [agentQueue(agent)]),
    async remove(agent) {
      await removeUser(await management(), agentUser(agent))
    },
    addInvited: (invitation) => add(invitedPermissions(invitation), []),
    async removeInvited(invitation) {
      await removeUser(await management(), invitedUser(invitation))
    },
  }
}
