/**
 * Commands in, answers out. Decides whether a command is accepted by what the coordinator knows; what only an agent
 * can know is checked by the session's first steps, before anything is mounted.
 */
import type { Logger } from 'pino'
import type { Bus, CommandDelivery, Outcome } from '../messages/bus.ts'
import type { CommandBody, CommandReply, CommandType, RepositoryInventory } from '../messages/definitions.ts'
import { errorBody, HowdahError } from '../messages/errors.ts'
import type { AgentRegistry } from './agent-registry.ts'
import type { Conductor } from './conductor.ts'
import { newSession, sessionView } from './session.ts'
import type { Store } from './store/store.ts'
import { unpublishRequested } from './transitions.ts'

export interface IntakeOptions {
  readonly store: Store
  readonly bus: Bus
  readonly registry: AgentRegistry
  readonly conductor: Conductor
  readonly logger: Logger
  readonly now: () => number
  /** A new session id for an instance name. */
  readonly newSessionId: (instance: string) => string
}

/** How many sessions one list holds at most; the newest. */
const MAX_LISTED = 500

type Handlers = {
  [T in CommandType]: (body: CommandBody<T>, delivery: CommandDelivery) => Promise<CommandReply<T>>
}

/** The handler for `Bus.consumeCommands`. */
export function createIntake(options: IntakeOptions): (delivery: CommandDelivery) => Promise<Outcome> {
  const { store, bus, registry, conductor, logger, now } = options

  const handlers: Handlers = {
    async 'instance.publish'(body, { messageId }) {
      const { repository, instance, target, backup = 'latest', recoverTo = { type: 'latest' } } = body
      checkRecoverTo(recoverTo)
      const mountAgent = registry.forRepository(repository)
      registry.target(target)
      const request = {
        repository,
        instance,
        backup,
        recoverTo,
        target,
        options: {
          ...(body.user !== undefined && { user: body.user }),
          ...(body.port !== undefined && { port: body.port }),
        },
      }
      const createdAt = new Date(now()).toISOString()
      const session = newSession(options.newSessionId(instance), request, mountAgent.name, createdAt)
      const reply = { accepted: true as const, session: session.id }
      if (await conductor.begin(session, { messageId, reply })) return reply
      // The same command came twice at once, and the other one won.
      const earlier = await store.answer(messageId)
      if (earlier) return earlier as CommandReply<'instance.publish'>
      throw new HowdahError('internal', `the new session id ${session.id} is taken; send the command again`)
    },

    async 'session.unpublish'(body, { messageId }) {
      const session = await conductor.change(body.session, unpublishRequested)
      if (!session) throw unknownSession(body.session)
      const reply = { accepted: true as const, session: session.id }
      await store.saveAnswer({ messageId, reply })
      return reply
    },

    async 'session.list'({ all = false }) {
      const sessions = await store.sessions({ settled: all, limit: MAX_LISTED })
      return { accepted: true, sessions: sessions.map(sessionView) }
    },

    async 'session.show'(body) {
      const session = await store.session(body.session)
      if (!session) throw unknownSession(body.session)
      return { accepted: true, session: sessionView(session) }
    },

    async 'inventory.list'(body) {
      return { accepted: true, repositories: await inventory(body) }
    },

    async 'agent.list'() {
      return { accepted: true, agents: registry.list() }
    },
  }

  /** Asks every mount agent concerned; one that does not answer is listed with its error, and hides no other. */
  async function inventory(body: CommandBody<'inventory.list'>): Promise<RepositoryInventory[]> {
    if (body.repository !== undefined) registry.forRepository(body.repository)
    const concerned = registry
      .list()
      .filter(
        (agent) =>
          agent.kind === 'mount' &&
          (body.repository === undefined ||
            agent.repositories?.some(({ name }) => name === body.repository) === true),
      )
    const answers = await Promise.all(
      concerned.map(async (agent): Promise<RepositoryInventory[]> => {
        try {
          if (!agent.online) {
            throw new HowdahError('agent_offline', `the mount agent "${agent.name}" is offline`)
          }
          const reply = await bus.requestInventory(agent.name, body, { timeoutMs: INVENTORY_DEADLINE_MS })
          if (!reply.accepted) throw new HowdahError(reply.error.code, reply.error.message)
          return reply.repositories
        } catch (error) {
          const failed = { mountAgent: agent.name, instances: [], error: errorBody(error) }
          return (agent.repositories ?? [])
            .filter(({ name }) => body.repository === undefined || name === body.repository)
            .map(({ name, format }) => ({ repository: name, format, ...failed }))
        }
      }),
    )
    return answers.flat().sort((a, b) => a.repository.localeCompare(b.repository))
  }

  async function answerTo(delivery: CommandDelivery): Promise<object> {
    const earlier = CHANGING.has(delivery.type) ? await store.answer(delivery.messageId) : undefined
    if (earlier) return earlier
    try {
      const handler = handlers[delivery.type] as (body: unknown, delivery: CommandDelivery) => Promise<object>
      return await handler(delivery.body, delivery)
    } catch (error) {
      if (!(error instanceof HowdahError)) throw error
      logger.info({ type: delivery.type, code: error.code, message: error.message }, 'refused a command')
      const reply = { accepted: false, error: error.toBody() }
      if (CHANGING.has(delivery.type)) await store.saveAnswer({ messageId: delivery.messageId, reply })
      return reply
    }
  }

  return async (delivery) => {
    await bus.reply(delivery, await answerTo(delivery))
    return 'ack'
  }
}

/** Commands that change something: the same `message_id` gets the same answer. Queries are answered anew. */
const CHANGING: ReadonlySet<CommandType> = new Set(['instance.publish', 'session.unpublish'])

const INVENTORY_DEADLINE_MS = 20_000

function unknownSession(id: string): HowdahError {
  return new HowdahError(
    'unknown_session',
    `there is no session "${id}"; "howdah sessions --all" lists them`,
    {
      field: 'session',
    },
  )
}

function checkRecoverTo({ type, value }: NonNullable<CommandBody<'instance.publish'>['recoverTo']>): void {
  const wantsValue = type !== 'latest' && type !== 'immediate'
  if (wantsValue === (value !== undefined)) return
  throw new HowdahError(
    'invalid_message',
    wantsValue ? `recoverTo.type "${type}" needs a value` : `recoverTo.type "${type}" takes no value`,
    { field: 'recoverTo.value' },
  )
}
