/** Maps each report of an agent to the transition of its session, or to a record in the agent registry. */
import type { Bus, Outcome, ReportDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import { type Clock, timestamp } from '../clock.ts'
import type { Enrolments } from '../enrolments.ts'
import type { RetryPolicy } from '../retry-policy.ts'
import { addWarnings, type Session } from '../session.ts'
import { stepDone, stepFailed, stepRefused, stepReported } from '../step-transitions.ts'
import { partLost, reachabilityReported, usageReported } from '../transitions.ts'
import type { ReportRelay, SessionReport } from './report-relay.ts'
import { ownUser, requireOwner, requireOwnName } from './report-sender.ts'
import type { RevocationSender } from './revocations.ts'
import type { SessionChanges } from './session-changes.ts'

export interface AgentReportsOptions {
  readonly bus: Pick<Bus, 'enroll' | 'reply'>
  readonly registry: AgentRegistry
  readonly enrolments: Enrolments
  readonly revocations: Pick<RevocationSender, 'heard'>
  readonly changes: SessionChanges
  readonly relay: ReportRelay
  readonly retry: RetryPolicy
  readonly now: Clock
  readonly random: () => number
}

/**
 * The handler for `Bus.consumeReports` and `Bus.consumeHeartbeats`. A report that contradicts the contract, or that its
 * sender may not make, is dead-lettered; any other error, such as a store that is away, is thrown for the bus to
 * redeliver.
 */
export function createAgentReports(
  options: AgentReportsOptions,
): (report: ReportDelivery) => Promise<Outcome> {
  const { bus, registry, enrolments, revocations, changes, relay, retry, now, random } = options

  /** Changes the session that a report is about. Undefined: there is no such session. */
  function change(
    report: Extract<ReportDelivery, { body: { session: string } }>,
    mutate: (session: Session) => void,
  ): Promise<Session | undefined> {
    return changes.change(report.body.session, (latest) => {
      requireOwner(latest, report)
      mutate(latest)
    })
  }

  async function changeAndRelay(report: SessionReport, mutate: (session: Session) => void): Promise<void> {
    const session = await change(report, mutate)
    if (session) relay.report(report, session)
  }

  async function enroll(report: Extract<ReportDelivery, { type: 'agent.enroll' }>): Promise<void> {
    const { sender } = report
    try {
      await bus.enroll(sender)
    } catch (error) {
      // Somebody must mend the queue; until then the agent asks again and again, and says why in its log.
      if (!(error instanceof HowdahError && error.code === 'configuration')) throw error
      await bus.reply(report, { accepted: false, error: error.toBody() })
      return
    }
    const known = registry.list().find(({ kind, name }) => kind === sender.kind && name === sender.name)
    const holder = known && {
      host: known.host,
      instance: known.instance,
      silentMs: Math.max(0, now() - Date.parse(known.lastSeen)),
    }
    await bus.reply(report, { accepted: true, ...(holder && { holder }) })
  }

  async function renew(report: Extract<ReportDelivery, { type: 'agent.renew' }>): Promise<void> {
    try {
      const signed = await enrolments.renew(ownUser(report), report.body.csr)
      await bus.reply(report, { accepted: true, ...signed })
    } catch (error) {
      if (!(error instanceof HowdahError)) throw error
      await bus.reply(report, { accepted: false, error: error.toBody() })
    }
  }

  async function apply(report: ReportDelivery): Promise<void> {
    requireOwnName(report, enrolments)
    const { type, body } = report
    switch (type) {
      case 'session.step-started':
      case 'session.step-progress':
        return changeAndRelay(report, (session) => stepReported(session, body, timestamp(now)))
      case 'session.step-done':
        return changeAndRelay(report, (session) => stepDone(session, body, timestamp(now)))
      case 'session.step-failed':
        return changeAndRelay(report, (session) => stepFailed(session, body, retry, now(), random))
      case 'session.step-refused':
        await change(report, (session) => stepRefused(session, body, timestamp(now)))
        return
      case 'session.usage':
        return changeAndRelay(report, (session) => usageReported(session, body.usage, timestamp(now)))
      case 'session.lost':
        return changeAndRelay(report, (session) => partLost(session, body, retry, timestamp(now)))
      case 'session.changes':
        return changeAndRelay(report, (session) => {
          session.changes = body.changes
        })
      case 'session.findings':
        return changeAndRelay(report, (session) => addWarnings(session, body.warnings))
      case 'session.reachability':
        return changeAndRelay(report, (session) => reachabilityReported(session, body))
      case 'repository.damage':
        return relay.damage(body, report.sender)
      case 'agent.enroll':
        return enroll(report)
      case 'agent.renew':
        return renew(report)
      case 'agent.revocations-wanted':
        return bus.reply(report, { accepted: true, ...enrolments.revocations })
      case 'agent.online':
        await registry.online(body)
        return revocations.heard(body)
      case 'agent.sessions':
        return registry.present(report.sender, body.sessions)
      case 'agent.offline':
        return registry.offline(body.kind, body.name)
      default: {
        report satisfies never
      }
    }
  }

  return async (report) => {
    try {
      await apply(report)
      return 'ack'
    } catch (error) {
      if (error instanceof HowdahError && REFUSED.has(error.code)) {
        return { deadLetter: `${error.code}: ${error.message}` }
      }
      throw error
    }
  }
}

const REFUSED: ReadonlySet<string> = new Set(['invalid_message', 'unauthorized'])
