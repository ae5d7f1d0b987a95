/** A coordinator without a broker: intake and conductor on a real store, a scripted bus, and a clock that tests set. */
import { pino } from 'pino'
import { Registry } from 'prom-client'
import {
  type AgentRegistry,
  openAgentRegistry,
  type RegistryOptions,
} from '../../coordinator/agent-registry.ts'
import { type Conductor, createConductor } from '../../coordinator/conductor.ts'
import { type EnrolmentsOptions, openEnrolments } from '../../coordinator/enrolments.ts'
import { createIntake } from '../../coordinator/intake.ts'
import { sessionMetrics } from '../../coordinator/metrics/session-metrics.ts'
import type { Session } from '../../coordinator/session.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { Outcome } from '../../messages/bus.ts'
import { OWN_RANGE } from '../../messages/contract-version.ts'
import type { CommandBody, CommandType, EventBody, ReportType } from '../../messages/definitions.ts'
import type { ErrorBody, ErrorCode } from '../../messages/errors.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { AgentView, HistoryEntry } from '../../messages/values.ts'
import {
  commandDelivery,
  createScriptedBus,
  reportDelivery,
  type ScriptedBus,
  type SentCommand,
} from './scripted-bus.ts'
import { stepResults } from './step-results.ts'

const LOST_AFTER_MS = 30_000
const POLL_MS = 5
/** On a machine that does much else a write to the disk alone takes seconds. */
const UNTIL_MS = 15_000

export const publishBody = { repository: 'main', instance: 'shop', target: 'db-7' } as const

export const mountAgent: AgentView = {
  kind: 'mount',
  name: 'backup-1',
  online: true,
  lastSeen: '2026-11-22T05:00:00.000Z',
  version: '0.1.0',
  contract: OWN_RANGE,
  host: 'backup-1.example',
  repositories: [{ name: 'main', format: 'pgbackrest' }],
}

export const targetAgent: AgentView = {
  kind: 'target',
  name: 'db-7',
  online: true,
  lastSeen: '2026-11-22T05:00:00.000Z',
  version: '0.1.0',
  contract: OWN_RANGE,
  host: 'db-7.example',
}

/** A reply to any command, as much of it as tests look at. */
export interface Reply {
  readonly accepted: boolean
  readonly session?: string
  readonly error?: ErrorBody
}

/** Two coordinators on one store can share a clock. */
export interface TestClock {
  now: number
}

export interface TestCoordinator {
  readonly bus: ScriptedBus
  readonly conductor: Conductor
  readonly registry: AgentRegistry
  /** A new `messageId` for each command without one. */
  command<T extends CommandType>(
    type: T,
    body: CommandBody<T>,
    messageId?: string,
    userId?: string,
  ): Promise<Reply>
  /** `sender` default: the agent that such a report comes from. */
  report<T extends ReportType>(
    type: T,
    body: EventBody<T>,
    sender?: AgentAddress,
    userId?: string,
  ): Promise<Outcome>
  /** Heartbeats of both agents. */
  agentsOnline(): Promise<void>
  /** The step that was sent last. */
  lastStep(): SentCommand
  /** Reports on the step that was sent last, as its agent. */
  finishStep(result?: Record<string, unknown>): Promise<Outcome>
  failStep(code: ErrorCode): Promise<Outcome>
  /** Publishes `publishBody` with both agents online, to the end. @returns the session's id */
  publish(): Promise<string>
  session(id: string): Promise<Session>
  /** The steps that were sent, each once, however often it was sent: e.g. `run mount`. */
  steps(): string[]
  history(id: string): Promise<HistoryEntry[]>
  close(): Promise<void>
}

/** `metrics`: where the metrics of its sessions are registered. `enrolling`: with what it enrols agents; default: it enrols none. */
export async function openTestCoordinator(
  store: Store,
  clock: TestClock,
  metrics = new Registry(),
  enrolling: Partial<EnrolmentsOptions> = {},
  needs?: RegistryOptions['needs'],
): Promise<TestCoordinator> {
  const now = (): number => clock.now
  const bus = createScriptedBus()
  const logger = pino({ level: 'silent' })
  const since = clock.now
  const enrolments = await openEnrolments({
    ...{ store, authority: undefined, users: undefined, lifetimeMs: 60_000, logger, now },
    ...enrolling,
  })
  const registry = await openAgentRegistry({
    store,
    lostAfterMs: LOST_AFTER_MS,
    listeningSince: () => since,
    now,
    isRevoked: enrolments.isRevoked,
    ...(needs && { needs }),
  })
  const conductor = createConductor({
    ...{ store, bus, registry, enrolments, logger, now },
    random: () => 0.5,
    retry: {
      attempts: 3,
      firstDelayMs: 20,
      maxDelayMs: 1_000,
      resume: { automatic: true, attempts: 10 },
    },
    observe: sessionMetrics(metrics),
    sweepMs: POLL_MS,
  })
  let sessions = 0
  const newSessionId = (instance: string): string => {
    sessions += 1
    return `${instance}-${sessions}`
  }
  const intake = createIntake({ store, bus, registry, enrolments, conductor, logger, now, newSessionId })
  let commands = 0

  const direction = ({ type }: SentCommand): 'run' | 'undo' => (type === 'step.run' ? 'run' : 'undo')

  const coordinator: TestCoordinator = {
    bus,
    conductor,
    registry,
    async command(type, body, messageId, userId) {
      commands += 1
      const id = messageId ?? `command-${commands}`
      await intake(commandDelivery(type, body, id, userId))
      return bus.replies.get(id) as Reply
    },
    report: (type, body, sender = senderOf(body), userId) =>
      conductor.onReport(reportDelivery(sender, type, body, userId)),
    async agentsOnline() {
      await coordinator.report('agent.online', mountAgent)
      await coordinator.report('agent.online', targetAgent)
    },
    lastStep() {
      const last = bus.sent.at(-1)
      if (!last) throw new Error('no step was sent')
      return last
    },
    finishStep(result) {
      const last = coordinator.lastStep()
      const { session, step, sequence } = last.body
      const given = result ?? (direction(last) === 'run' ? stepResults[step] : { undone: [`undid ${step}`] })
      const event = { session, step, direction: direction(last), sequence, result: given }
      return coordinator.report('session.step-done', event)
    },
    failStep(code) {
      const last = coordinator.lastStep()
      const { session, step, sequence } = last.body
      const error = { code, message: `${step} broke` }
      return coordinator.report('session.step-failed', {
        session,
        step,
        direction: direction(last),
        sequence,
        error,
      })
    },
    async publish() {
      await coordinator.agentsOnline()
      const { session = '' } = await coordinator.command('instance.publish', publishBody)
      while ((await coordinator.session(session)).state !== 'published') await coordinator.finishStep()
      return session
    },
    async session(id) {
      const session = await store.session(id)
      if (!session) throw new Error(`there is no session ${id}`)
      return session
    },
    steps: () => {
      const sent = new Map(bus.sent.map((one) => [one.messageId, `${direction(one)} ${one.body.step}`]))
      return [...sent.values()]
    },
    history: (id) => store.history(id, 1000),
    close: () => conductor.close(),
  }
  return coordinator
}

/** The agent itself, or the one that runs the step, or the target agent. */
function senderOf(body: object): AgentAddress {
  const { kind, name, step } = body as Partial<AgentAddress> & { step?: string }
  if (kind !== undefined && name !== undefined) return { kind, name }
  return step === 'resolve' ? mountAgent : targetAgent
}

/** Waits for what timers bring about. @throws Error that names the condition after some seconds */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + UNTIL_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`timed out waiting until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
