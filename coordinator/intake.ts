/**
 * Commands in, answers out. Decides whether a command is accepted by what the coordinator knows; what only an agent
 * can know is checked by the session's first steps, before anything is mounted.
 */
import type { Logger } from 'pino'
import type { Bus, CommandDelivery, Outcome } from '../messages/bus.ts'
import type { CommandBody, CommandReply, CommandType } from '../messages/definitions.ts'
import { errorBody, HowdahError } from '../messages/errors.ts'
import type { RecoverTo, RepositoryInventory } from '../messages/values.ts'
import type { AgentRegistry } from './agent-registry.ts'
import { checkPublish } from './check.ts'
import type { Conductor } from './conductor.ts'
import * as requests from './requests.ts'
import { newSession, type Session, type SessionRequest } from './session.ts'
import { sessionView } from './session-view.ts'
import type { Store } from './store/store.ts'

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
/** How many entries of a history are shown at most; the newest. */
const MAX_HISTORY = 1000

type Handlers = {
  [T in CommandType]: (body: CommandBody<T>, delivery: CommandDelivery) => Promise<CommandReply<T>>
}

/** The handler for `Bus.consumeCommands`. */
export function createIntake(options: IntakeOptions): (delivery: CommandDelivery) => Promise<Outcome> {
  const { store, bus, registry, conductor, logger, now } = options
  const isoNow = (): string => new Date(now()).toISOString()

  const handlers: Handlers = {
    async 'instance.publish'(body, delivery) {
      const mountAgent = registry.forRepository(body.repository)
      await requireRoom(body.target)
      return begin(sessionRequest(body), mountAgent.name, delivery, (session) => {
        if (body.expiresIn !== undefined) requests.extend(session, body.expiresIn, session.createdAt)
        if (body.export) {
          session.errand = true
          requests.addExport(session, body.export, isoNow())
        }
      })
    },

    async 'instance.check'(body) {
      return { accepted: true, report: await checkPublish(sessionRequest(body), { bus, registry }) }
    },

    async 'session.republish'(body, delivery) {
      checkRecoverTo(body.recoverTo)
      const session = await known(body.session)
      if (body.port !== undefined && !body.alongside) {
        throw new HowdahError('invalid_message', 'a port can be chosen for a republish alongside only', {
          field: 'port',
        })
      }
      const request = requests.requestAgain(session, body)
      if (body.alongside) {
        await requireRoom(request.target)
        const { port: _, ...options } = request.options
        const own = {
          ...request,
          options: { ...options, ...(body.port !== undefined && { port: body.port }) },
        }
        return begin(own, session.mountAgent, delivery)
      }
      if (!body.discardChanges) await requireNoChanges(session)
      return change(body.session, delivery, (latest) => requests.republish(latest, request))
    },

    'session.unpublish': (body, delivery) =>
      change(body.session, delivery, (session) => requests.unpublish(session, body)),

    'session.retry': (body, delivery) => change(body.session, delivery, requests.retry),

    'session.cancel': (body, delivery) => change(body.session, delivery, requests.cancel),

    'session.promote': (body, delivery) => change(body.session, delivery, requests.promote),

    async 'session.advance'(body, delivery) {
      checkRecoverTo(body.recoverTo)
      return change(body.session, delivery, (session) => requests.advance(session, body.recoverTo))
    },

    async 'session.export'({ session: id, ...request }, delivery) {
      let added = ''
      const reply = await change(id, delivery, (session) => {
        added = requests.requestExport(session, request, isoNow())
      })
      return { ...reply, export: added }
    },

    'session.extend': ({ session: id, expiresIn }, delivery) =>
      change(id, delivery, (session) => requests.extend(session, expiresIn, isoNow())),

    async 'session.list'({ all = false }) {
      const sessions = await store.sessions({ settled: all, limit: MAX_LISTED })
      return { accepted: true, sessions: sessions.map(sessionView) }
    },

    async 'session.show'(body) {
      const session = await known(body.session)
      const history = await store.history(session.id, MAX_HISTORY)
      return { accepted: true, session: { ...sessionView(session), history } }
    },

    async 'inventory.list'(body) {
      return { accepted: true, repositories: await inventory(body) }
    },

    async 'target.doctor'({ target, timeLimit = DOCTOR_SECONDS }) {
      const agent = registry.target(target)
      const timeoutMs = timeLimit * 1000 + DOCTOR_GRACE_MS
      return bus.requestAgent(agent, 'caches.verify', { timeLimit }, { timeoutMs })
    },

    async 'agent.list'() {
      return { accepted: true, agents: registry.list() }
    },
  }

  function sessionRequest(body: CommandBody<'instance.publish'>): SessionRequest {
    const { repository, instance, target, backup = 'latest', recoverTo = { type: 'latest' } } = body
    checkRecoverTo(recoverTo)
    const { user, port, superuser, afterRecovery, listen, settings, hba, allowOutbound } = body
    const options = { user, port, superuser, afterRecovery, listen, settings, hba, allowOutbound }
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
    return { repository, instance, backup, recoverTo, target, options: given }
  }

  /** Makes a session, or gives the answer that the same command got before. */
  async function begin(
    request: SessionRequest,
    mountAgent: string,
    { messageId }: CommandDelivery,
    furnish: (session: Session) => void = () => undefined,
  ): Promise<{ accepted: true; session: string }> {
    const session = newSession(options.newSessionId(request.instance), request, mountAgent, isoNow())
    furnish(session)
    const reply = { accepted: true as const, session: session.id }
    if (await conductor.add(session, { messageId, reply })) return reply
    // The same command came twice at once, and the other one won.
    const earlier = await store.answer(messageId)
    if (earlier) return earlier as typeof reply
    throw new HowdahError('internal', `the new session id ${session.id} is taken; send the command again`)
  }

  async function change(
    id: string,
    { type, messageId }: CommandDelivery,
    mutate: (session: Session) => void,
  ): Promise<{ accepted: true; session: string }> {
    const session = await conductor.change(id, mutate, type.replace(/^session\./, ''))
    if (!session) throw unknownSession(id)
    const reply = { accepted: true as const, session: session.id }
    await store.saveAnswer({ messageId, reply })
    return reply
  }

  async function known(id: string): Promise<Session> {
    const session = await store.session(id)
    if (!session) throw unknownSession(id)
    return session
  }

  /** @throws HowdahError `limit_reached` | `unknown_target` | `agent_offline` */
  async function requireRoom(name: string): Promise<void> {
    const { limits } = registry.target(name)
    if (!limits) return
    const sessions = (await store.sessions({ settled: false })).filter(
      ({ request }) => request.target === name,
    )
    const open = sessions.filter(({ state }) => state !== 'closed').length
    if (limits.sessions !== null && open >= limits.sessions) {
      throw new HowdahError(
        'limit_reached',
        `the target "${name}" takes ${limits.sessions} sessions at a time and has ${open}; unpublish one, or raise limits.sessions of its agent`,
        { field: 'target' },
      )
    }
    const bytes = sessions.reduce((sum, { usage }) => sum + (usage?.cacheBytes ?? 0), 0)
    if (limits.cacheBytes !== null && bytes >= limits.cacheBytes) {
      throw new HowdahError(
        'limit_reached',
        `the write caches of the target "${name}" take ${bytes} bytes of the ${limits.cacheBytes} that limits.cacheBytes of its agent allows; unpublish a session, or raise it`,
        { field: 'target' },
      )
    }
  }

  /** @throws HowdahError `changes_unexported` | what asking the target agent throws */
  async function requireNoChanges(session: Session): Promise<void> {
    if (session.keepCache) throw unexported(session, '')
    if (!session.everPublished || session.desired === 'absent') return
    const agent = registry.target(session.request.target)
    const reply = await bus.requestAgent(agent, 'session.changes', { session: session.id })
    if (!reply.accepted) throw new HowdahError(reply.error.code, reply.error.message)
    const { changed, databases } = reply.changes
    if (!changed) return
    const where = databases.length > 0 ? ` in ${databases.join(', ')}` : ''
    throw unexported(session, where)
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
          const reply = await bus.requestAgent(agent, 'repository.list', body, {
            timeoutMs: INVENTORY_DEADLINE_MS,
          })
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
const CHANGING: ReadonlySet<CommandType> = new Set([
  'instance.publish',
  'session.republish',
  'session.unpublish',
  'session.retry',
  'session.cancel',
  'session.promote',
  'session.advance',
  'session.export',
  'session.extend',
])

const INVENTORY_DEADLINE_MS = 20_000
const DOCTOR_SECONDS = 60
/** What a target takes on top: mount processes that do not answer at once, indexes to be read. */
const DOCTOR_GRACE_MS = 60_000

function unknownSession(id: string): HowdahError {
  return new HowdahError(
    'unknown_session',
    `there is no session "${id}"; "howdah sessions --all" lists them`,
    {
      field: 'session',
    },
  )
}

function unexported({ id }: Session, where: string): HowdahError {
  return new HowdahError(
    'changes_unexported',
    `the session "${id}" holds changes${where} that were not exported; export them, publish alongside it, or discard them ("--discard-changes")`,
    { field: 'discardChanges' },
  )
}

function checkRecoverTo(recoverTo: RecoverTo | undefined): void {
  if (!recoverTo) return
  const { type, value } = recoverTo
  const wantsValue = type !== 'latest' && type !== 'immediate'
  if (wantsValue === (value !== undefined)) return
  throw new HowdahError(
    'invalid_message',
    wantsValue ? `recoverTo.type "${type}" needs a value` : `recoverTo.type "${type}" takes no value`,
    { field: 'recoverTo.value' },
  )
}
