/**
 * What a coordinator finds after it was away for half a day: agents told of their sessions all the time. Of that the broker
 * has kept what has not expired; the rounds before the last are given little time here, so that they have expired, too.
 */
import { once } from 'node:events'
import type { Bus } from '../../messages/bus.ts'
import { type AgentAddress, LASTING_MS } from '../../messages/topology.ts'
import { poll } from './poll.ts'

export interface OpenSession {
  readonly id: string
  readonly target: string
}

export interface BacklogResult {
  /** Seconds from the coordinator's start until every session says what was told last. */
  readonly seconds: number
  /** Seconds of the slowest answer to a client in that time. */
  readonly slowestAnswer: number
  /** Reports of earlier rounds that were handled. */
  readonly outdated: number
  /** Sessions that were shown as cut off from an agent. */
  readonly disrupted: number
}

const OUTDATED_ROUNDS = 10
const OUTDATED_MS = 1_000
const AT_ONCE = 500
const DEADLINE_MS = 600_000
/** Of usage, in the last round. */
const TRUTH = 1_000_000

/** Fills the queues. @param agent publishes for all agents */
export async function tellOfHalfADay(
  agent: Pick<Bus, 'report'>,
  sessions: readonly OpenSession[],
): Promise<void> {
  for (let round = 0; round <= OUTDATED_ROUNDS; round++) {
    const isLast = round === OUTDATED_ROUNDS
    const outdated = isLast ? {} : { expiresMs: OUTDATED_MS }
    await each(sessions, async ({ id: session, target }) => {
      const from: AgentAddress = { kind: 'target', name: target }
      const changes = { changed: true, databases: [`round-${round}`] }
      const reach = { reachable: isLast, since: new Date().toISOString(), failedReads: 0 }
      const usage = { fetchedBytes: isLast ? TRUTH : round, totalBytes: TRUTH, cacheBytes: round }
      await Promise.all([
        agent.report(from, 'session.changes', { session, changes }, outdated),
        agent.report(from, 'session.reachability', { session, ...reach }, outdated),
        agent.report(
          from,
          'session.usage',
          { session, usage },
          isLast ? { expiresMs: LASTING_MS } : outdated,
        ),
      ])
    })
  }
  await new Promise((resolve) => setTimeout(resolve, OUTDATED_MS))
}

/** @param start starts the coordinator */
export async function catchUp(
  client: Bus,
  sessions: readonly OpenSession[],
  start: () => Promise<unknown>,
): Promise<BacklogResult> {
  const behind = new Set(sessions.map(({ id }) => id))
  let outdated = 0
  const watch = await client.watchEvents('session.*.usage', ({ type, body }) => {
    if (type !== 'session.usage') return
    if (body.usage.fetchedBytes === TRUTH) behind.delete(body.session)
    else outdated += 1
  })
  const begun = performance.now()
  await start()
  const over = new AbortController()
  const answers = askAllTheTime(client, over.signal)
  await poll(() => behind.size === 0 || undefined, {
    deadlineMs: DEADLINE_MS,
    failure: () => `${behind.size} of ${sessions.length} sessions do not say the truth`,
  })
  const seconds = (performance.now() - begun) / 1000
  over.abort()
  const slowestAnswer = await answers
  await watch.close()
  const reply = await client.request('session.list', { state: ['disrupted'], limit: 500 })
  if (!reply.accepted) throw new Error(reply.error.message)
  return { seconds, slowestAnswer, outdated, disrupted: reply.sessions.length }
}

/** @returns seconds of the slowest answer */
async function askAllTheTime(client: Bus, over: AbortSignal): Promise<number> {
  let slowest = 0
  while (!over.aborted) {
    const asked = performance.now()
    await Promise.all([
      client.request('session.list', { limit: 10 }),
      client.request('session.retry', { session: 'no-such-session' }),
    ])
    slowest = Math.max(slowest, (performance.now() - asked) / 1000)
    await Promise.race([once(over, 'abort'), new Promise((resolve) => setTimeout(resolve, 200))])
  }
  return slowest
}

async function each<T>(all: readonly T[], work: (one: T) => Promise<unknown>): Promise<void> {
  const waiting = all.values()
  const lane = async (): Promise<void> => {
    for (const one of waiting) await work(one)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
}
