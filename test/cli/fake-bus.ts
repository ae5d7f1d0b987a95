/** A coordinator in memory behind the `Bus` interface, for tests of what the command line does with replies and events. */
import type { Bus, Consumer, EventDelivery } from '../../messages/bus.ts'
import type {
  CommandBody,
  CommandReply,
  CommandType,
  EventBody,
  EventType,
} from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'

type Answers = { [T in CommandType]?: (body: CommandBody<T>) => CommandReply<T> | Promise<CommandReply<T>> }

export interface FakeBus extends Bus {
  /** Every request so far. */
  readonly requests: { type: CommandType; body: unknown; messageId: string | undefined }[]
  readonly isClosed: boolean
  /** Who watches events now. */
  readonly watchers: number
  /** As after a reconnect: events may have been missed. */
  reconnect(): void
  deliver<T extends EventType>(type: T, body: EventBody<T>): void
}

export function createFakeBus(answers: Answers): FakeBus {
  const handlers = new Set<(delivery: EventDelivery) => void>()
  const missed = new Set<() => void>()
  const requests: FakeBus['requests'] = []
  let isClosed = false
  const unused = (): never => {
    throw new Error('the command line does not use that')
  }
  return {
    requests,
    get isClosed() {
      return isClosed
    },
    get watchers() {
      return handlers.size
    },
    connectedSince: 0,
    probe: unused,
    queueLengths: unused,
    askCoordinator: unused,
    async request<T extends CommandType>(type: T, body: CommandBody<T>, options?: { messageId?: string }) {
      if (isClosed) throw new Error(`${type} on a bus that is closed`)
      requests.push({ type, body, messageId: options?.messageId })
      const answer = answers[type] as ((body: CommandBody<T>) => CommandReply<T>) | undefined
      if (answer === undefined) throw new Error(`no answer to ${type} is prepared`)
      return answer(body)
    },
    async watchEvents(_pattern, handler, onMissed = () => {}): Promise<Consumer> {
      handlers.add(handler)
      missed.add(onMissed)
      return {
        isConsuming: true,
        close: async () => {
          handlers.delete(handler)
          missed.delete(onMissed)
        },
      }
    },
    reconnect() {
      for (const onMissed of missed) onMissed()
    },
    deliver(type, body) {
      const delivery = {
        type,
        body,
        messageId: 'm',
        correlationId: undefined,
        replyTo: undefined,
        appId: undefined,
        userId: undefined,
        routingKey: type,
        redelivered: false,
      } as unknown as EventDelivery
      for (const handler of handlers) handler(delivery)
    },
    sendToAgent: unused,
    requestAgent: unused,
    emit: unused,
    report: unused,
    reply: unused,
    consumeCommands: unused,
    consumeQueries: unused,
    consumeReports: unused,
    consumeHeartbeats: unused,
    consumeObservations: unused,
    consumeAgentCommands: unused,
    declareTopology: unused,
    enroll: unused,
    holdLease: unused,
    disenroll: unused,
    close: async () => {
      isClosed = true
    },
  }
}

export function sessionView(changes: Partial<SessionView> = {}): SessionView {
  return {
    id: 'main-x7f3k2',
    version: 1,
    state: 'validating',
    repository: 'prod',
    instance: 'main',
    backup: 'latest',
    recoverTo: { type: 'latest' },
    target: 'local',
    createdAt: '2025-11-22T06:30:00.000Z',
    updatedAt: '2025-11-22T06:30:00.000Z',
    steps: [],
    warnings: [],
    ...changes,
  }
}

/** As the coordinator announces it. */
export function stateEvent(session: string, state: SessionView['state']): EventBody<'session.state'> {
  const place = { repository: 'prod', instance: 'main', target: 'local' }
  return { session, version: 1, state, at: '2025-11-22T06:30:00.000Z', ...place }
}
