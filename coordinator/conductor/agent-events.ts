/** Maps each event of an agent to the transition of its session, or to a record in the agent registry. */
import type { EventDelivery, Outcome } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import { type Clock, timestamp } from '../clock.ts'
import type { RetryPolicy } from '../retry-policy.ts'
import { addWarnings } from '../session.ts'
import { stepDone, stepFailed, stepRefused, stepReported } from '../step-transitions.ts'
import { partLost, reachabilityReported, usageReported } from '../transitions.ts'
import type { SessionChanges } from './session-changes.ts'

export interface AgentEventsOptions {
  readonly registry: AgentRegistry
  readonly changes: SessionChanges
  readonly retry: RetryPolicy
  readonly now: Clock
  readonly random: () => number
}

/**
 * The handler for `Bus.consumeCoordinatorEvents`. An event that contradicts the contract is dead-lettered; any other
 * error, such as a store that is away, is thrown for the bus to redeliver.
 */
export function createAgentEvents(options: AgentEventsOptions): (event: EventDelivery) => Promise<Outcome> {
  const { registry, changes, retry, now, random } = options
  const { change } = changes

  async function apply(event: EventDelivery): Promise<void> {
    const { type, body } = event
    switch (type) {
      case 'session.step-started':
      case 'session.step-progress':
        await change(body.session, (session) => stepReported(session, body, timestamp(now)))
        return
      case 'session.step-done':
        await change(body.session, (session) => stepDone(session, body, timestamp(now)))
        return
      case 'session.step-failed':
        await change(body.session, (session) => stepFailed(session, body, retry, now(), random))
        return
      case 'session.step-refused':
        await change(body.session, (session) => stepRefused(session, body, timestamp(now)))
        return
      case 'session.usage':
        await change(body.session, (session) => usageReported(session, body.usage, timestamp(now)))
        return
      case 'session.lost':
        await change(body.session, (session) => partLost(session, body, retry))
        return
      case 'session.changes':
        await change(body.session, (session) => {
          session.changes = body.changes
        })
        return
      case 'session.findings':
        await change(body.session, (session) => addWarnings(session, body.warnings))
        return
      case 'session.reachability':
        await change(body.session, (session) => reachabilityReported(session, body))
        return
      case 'agent.online':
        await registry.online(body)
        return
      case 'agent.offline':
        await registry.offline(body.kind, body.name)
        return
      case 'session.state':
      case 'session.warning':
      case 'repository.damage':
        // The coordinator's own, and what belongs to no session; the queue is not bound to them.
        return
      default: {
        event satisfies never
      }
    }
  }

  return async (event) => {
    try {
      await apply(event)
      return 'ack'
    } catch (error) {
      if (error instanceof HowdahError && error.code === 'invalid_message') {
        return { deadLetter: error.message }
      }
      throw error
    }
  }
}
