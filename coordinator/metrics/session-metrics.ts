/** Counts and times what changes of sessions bring about: states, steps, and how long a publish takes. */
import { Counter, Histogram, type Registry } from 'prom-client'
import { StepName } from '../../messages/values.ts'
import type { Session } from '../session.ts'

/** Seconds. */
const STEP_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]
const PUBLISH_BUCKETS = [0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120, 300, 1800]

/** Called with a session before and after each change that was saved; `before` is undefined for a new session. */
export type SessionObserver = (before: Session | undefined, after: Session) => void

export function sessionMetrics(registry: Registry): SessionObserver {
  const registers = [registry]
  const entered = new Counter({
    name: 'howdah_session_states_total',
    help: 'How often a session entered each state',
    labelNames: ['state'],
    registers,
  })
  const published = new Histogram({
    name: 'howdah_publish_seconds',
    help: 'Time from the command to publish to the moment at which the instance can be queried, its first time',
    buckets: PUBLISH_BUCKETS,
    registers,
  })
  const steps = new Histogram({
    name: 'howdah_step_seconds',
    help: 'Time from the command of a step to its outcome, as the coordinator sees it: waiting for the agent included',
    labelNames: ['step', 'direction', 'outcome'],
    buckets: STEP_BUCKETS,
    registers,
  })
  for (const state of ['published', 'disrupted', 'failed', 'closed']) entered.inc({ state }, 0)
  for (const step of StepName.options) steps.zero({ step, direction: 'run', outcome: 'done' })

  return (before, after) => {
    if (before?.state !== after.state) {
      entered.inc({ state: after.state })
      if (after.state === 'published' && before !== undefined && !before.everPublished) {
        published.observe(secondsBetween(after.createdAt, after.updatedAt))
      }
    }
    const ended = before?.current
    if (ended === undefined || after.current?.sequence === ended.sequence) return
    const report = after.steps.findLast(({ sequence }) => sequence === ended.sequence)
    if (report?.finishedAt === undefined) return
    const { step, direction, status, startedAt, finishedAt } = report
    steps.observe({ step, direction, outcome: status }, secondsBetween(startedAt, finishedAt))
  }
}

function secondsBetween(from: string, to: string): number {
  return Math.max(0, Date.parse(to) - Date.parse(from)) / 1000
}
