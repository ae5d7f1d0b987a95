/**
 * Measures the coordinator under fleets of growing size: a real broker, a real coordinator process and simulated agents,
 * each on AMQP connections of its own; sessions live their whole life, with 1 % of faults.
 */
import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import type { PrivateBroker } from '../../../coordinator/cli/broker.ts'
import { connectBus } from '../../../messages/amqp-bus.ts'
import type { Bus } from '../../../messages/bus.ts'
import { catchUp, type OpenSession, tellOfHalfADay } from '../../support/backlog.ts'
import { cleanEnvironment, LAUNCHER } from '../../support/fleet-roles.ts'
import { poll } from '../../support/poll.ts'
import { makeCluster, postgresAccount } from '../../support/postgres-cluster.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import type { Figure } from '../figure.ts'
import { startMeasured } from '../fleet/coordinator-process.ts'
import { fillStore } from '../fleet/history.ts'
import type { SimulatedAgents } from '../fleet/simulated-agents.ts'
import type { Scope } from '../scope.ts'
import type { Workshop } from '../workshop.ts'

const AGENTS = fileURLToPath(new URL('../fleet/simulated-agents.ts', import.meta.url))
/** Agents of one process. */
const BATCH = 250
/** One mount agent serves this many targets. */
const TARGETS_PER_MOUNT = 20
/** Sessions that are on their way at the same time. */
const IN_FLIGHT = 48
const HEARTBEAT_MS = 10_000
const DEADLINE_MS = 30 * 60_000
const logger = pino({ level: 'silent' })

interface Sizes {
  readonly agents: readonly number[]
  /** Sessions through their whole life, in the largest fleet; the others have their share, at least 100. */
  readonly sessions: number
  readonly open: number
  readonly history: number
}

const FULL: Sizes = { agents: [10, 100, 1000], sessions: 10_000, open: 10_000, history: 100_000 }
const QUICK: Sizes = { agents: [5, 50], sessions: 400, open: 300, history: 5_000 }

export async function fleet(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const sizes = workshop.amounts.quick ? QUICK : FULL
  const figures: Figure[] = []
  for (const agents of sizes.agents) {
    scope.check()
    const inner = scope.inner()
    try {
      figures.push(...(await measure(workshop, inner, agents, sizes)))
    } finally {
      await inner.close()
    }
  }
  const inner = scope.inner()
  try {
    const agents = sizes.agents.at(-2) ?? 1
    figures.push(...(await measure(workshop, inner, agents, sizes, await postgresStore(inner))))
  } finally {
    await inner.close()
  }
  return figures
}

/** A server as administrators run it: what is committed is durable. */
async function postgresStore(scope: Scope): Promise<{ url: string }> {
  const directory = await mkdtemp('/var/tmp/howdah-bench-store-')
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  const account = await postgresAccount()
  await chown(directory, account.uid, account.gid)
  const settings = { fsync: 'on', synchronous_commit: 'on' }
  const cluster = await makeCluster({ directory, account, configuration: 'inside', settings })
  await cluster.start()
  scope.defer('PostgreSQL', () => cluster.stop('immediate'))
  return { url: `postgres://${cluster.user}@127.0.0.1:${cluster.port}/postgres` }
}

async function measure(
  workshop: Workshop,
  scope: Scope,
  agents: number,
  sizes: Sizes,
  postgres?: { readonly url: string },
): Promise<readonly Figure[]> {
  const isLargest = agents === sizes.agents.at(-1)
  const directory = await mkdtemp('/var/tmp/howdah-bench-fleet-')
  scope.defer(directory, () => rm(directory, { recursive: true, force: true }))
  await mkdir(path.join(directory, 'broker'))
  const broker = await startTestBroker({ directory: path.join(directory, 'broker'), logger })
  scope.defer('the broker', () => broker.stop())
  const store = path.join(directory, 'store.sqlite')
  const config = {
    ...{ broker: { url: broker.url }, retry: { firstDelay: 0.2 } },
    store: postgres ?? { path: store },
  }
  let coordinator = await startMeasured(directory, config)
  scope.defer('the coordinator', () => coordinator.stop())
  workshop.say(`  ${agents} agents connect …`)
  await startAgents(scope, broker.url, agents)
  const client = await connectBus({ url: broker.url, appId: 'bench', role: 'client', logger })
  scope.defer('the client', () => client.close())
  const sessions = createSessions(client, agents)
  await sessions.watch()

  const count = isLargest ? sizes.sessions : Math.max(100, Math.round((sizes.sessions * agents) / 1000))
  workshop.say(`  ${count} sessions through their whole life …`)
  await coordinator.eventLoopDelay()
  const before = coordinator.processorSeconds()
  const begun = performance.now()
  await sessions.live(count, () => scope.check())
  const seconds = (performance.now() - begun) / 1000
  const perSession = ((coordinator.processorSeconds() - before) * 1000) / count
  const of = `, ${agents} agents${postgres ? ', store in PostgreSQL' : ''}`
  const figures: Figure[] = [
    figure(`processor time of the coordinator, a session${of}`, 'ms', perSession, 20),
    figure(`sessions through their whole life${of}`, '/s', count / seconds),
    figure(`delay of its event loop, percentile 99${of}`, 'ms', await coordinator.eventLoopDelay(), 50),
    figure(`its memory, peak${of}`, 'MiB', coordinator.peakMib(), 300),
  ]
  if (postgres) {
    workshop.say(`  ${sizes.open} sessions are published, and ${sizes.history} are history …`)
    await sessions.open(1, () => scope.check())
    await coordinator.stop()
    await fillStore(postgres, { open: sizes.open, settled: sizes.history })
    coordinator = await startMeasured(directory, config)
    const started = coordinator.startSeconds
    return [...figures, ...(await fullStore(broker, sizes, started, of))]
  }
  if (!isLargest) return figures

  workshop.say(`  ${sizes.open} sessions are published, and ${sizes.history} are history …`)
  await sessions.open(sizes.open, () => scope.check())
  await coordinator.stop()
  await fillStore({ path: store }, { open: 0, settled: sizes.history })
  coordinator = await startMeasured(directory, config)
  figures.push(...(await fullStore(broker, sizes, coordinator.startSeconds, '')))
  workshop.say('  the broker is restarted …')
  figures.push(
    figure(
      'all agents online after a restart of the broker',
      's',
      await comeBack(broker, client, agents),
      30,
    ),
    figure('its memory, peak, after that', 'MiB', coordinator.peakMib(), 300),
    figure(
      'delay of its event loop, percentile 99, after that',
      'ms',
      await coordinator.eventLoopDelay(),
      50,
    ),
  )

  workshop.say('  the coordinator is away for half a day …')
  await coordinator.stop()
  const agent = await connectBus({ url: broker.url, appId: 'bench', role: 'agent', logger })
  scope.defer('what tells of sessions', () => agent.close())
  await tellOfHalfADay(agent, sessions.published())
  const caughtUp = await catchUp(client, sessions.published(), async () => {
    coordinator = await startMeasured(directory, config)
  })
  if (caughtUp.outdated > 0 || caughtUp.disrupted > 0) {
    workshop.note(
      `after half a day ${caughtUp.outdated} reports were handled that later ones had outdated, and ${caughtUp.disrupted} sessions counted as disrupted`,
    )
  }
  figures.push(
    figure(`all ${sizes.open} sessions up to date after an outage of half a day`, 's', caughtUp.seconds, 120),
    figure('slowest answer to a client meanwhile', 's', caughtUp.slowestAnswer, 1),
    figure('its memory, peak, meanwhile', 'MiB', coordinator.peakMib(), 300),
  )
  return figures
}

async function fullStore(
  broker: PrivateBroker,
  { open, history }: Sizes,
  startSeconds: number,
  of: string,
): Promise<readonly Figure[]> {
  return [
    figure(`start of the coordinator with ${open} open sessions${of}`, 's', startSeconds, 2),
    figure(`howdah sessions, ${history} in the history${of}`, 's', await listing(broker), 0.5),
  ]
}

const figure = (name: string, unit: Figure['unit'], value: number, limit?: number): Figure => ({
  ...{ name, unit, better: unit === '/s' ? 'more' : 'less', howdah: [value] },
  ...(limit !== undefined && { target: { of: 'value', limit } as const }),
})

async function startAgents(scope: Scope, url: string, targets: number): Promise<void> {
  const mounts = Math.ceil(targets / TARGETS_PER_MOUNT)
  const batches: SimulatedAgents[] = []
  const add = (kind: SimulatedAgents['kind'], total: number): void => {
    for (let first = 0; first < total; first += BATCH) {
      const count = Math.min(BATCH, total - first)
      batches.push({ url, kind, first, count, faults: 0.01, heartbeatMs: HEARTBEAT_MS })
    }
  }
  add('mount', mounts)
  add('target', targets)
  for (const batch of batches) {
    const child = fork(AGENTS, [JSON.stringify(batch)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    scope.defer('agents', () => ended(child))
    await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => Promise.reject(new Error('simulated agents ended'))),
    ])
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

/** Publishes and unpublishes as clients do, and waits for the coordinator's announcements. */
function createSessions(client: Bus, targets: number) {
  const waiting = new Map<string, (state: string) => void>()
  /** Announcements can come before the reply that names the session. */
  const latest = new Map<string, string>()

  async function until(session: string, wanted: string): Promise<void> {
    for (;;) {
      const state = latest.get(session)
      if (state === wanted) return
      if (state === 'failed') throw new Error(`${session} failed`)
      await new Promise<void>((resolve) => waiting.set(session, () => resolve()))
    }
  }

  const open: OpenSession[] = []

  async function publish(number: number): Promise<string> {
    const target = number % targets
    const mount = Math.floor(target / TARGETS_PER_MOUNT)
    const reply = await client.request('instance.publish', {
      repository: `repository-mount-${mount}`,
      instance: 'shop',
      target: `target-${target}`,
    })
    if (!reply.accepted) throw new Error(`refused: ${reply.error.message}`)
    await until(reply.session, 'published')
    return reply.session
  }

  async function unpublish(session: string): Promise<void> {
    const reply = await client.request('session.unpublish', { session })
    if (!reply.accepted) throw new Error(`refused: ${reply.error.message}`)
    await until(session, 'closed')
    latest.delete(session)
  }

  async function inFlight(count: number, check: () => void, work: (number: number) => Promise<unknown>) {
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < count) {
        check()
        await work(next++)
      }
    }
    const late = AbortSignal.timeout(DEADLINE_MS)
    await Promise.race([
      Promise.all(Array.from({ length: IN_FLIGHT }, lane)),
      once(late, 'abort').then(() => Promise.reject(new Error(`${next} of ${count} sessions in 30 min`))),
    ])
  }

  return {
    watch: () =>
      client.watchEvents('session.*.state', ({ type, body }) => {
        if (type !== 'session.state') return
        latest.set(body.session, body.state)
        waiting.get(body.session)?.(body.state)
        waiting.delete(body.session)
      }),
    live: (count: number, check: () => void) =>
      inFlight(count, check, async (number) => unpublish(await publish(number))),
    open: (count: number, check: () => void) =>
      inFlight(count, check, async (number) => {
        open.push({ id: await publish(number), target: `target-${number % targets}` })
      }),
    published: (): readonly OpenSession[] => open,
  }
}

/** Seconds of `howdah sessions`, the best of three. */
async function listing(broker: PrivateBroker): Promise<number> {
  const seconds: number[] = []
  for (let turn = 0; turn < 3; turn++) {
    const begun = performance.now()
    await promisify(execFile)(LAUNCHER, ['sessions', '--broker', broker.url], {
      env: cleanEnvironment(),
      maxBuffer: 64 * 1024 ** 2,
    })
    seconds.push((performance.now() - begun) / 1000)
  }
  return Math.min(...seconds)
}

/** Seconds from the broker's return until the coordinator has heard of every agent. */
async function comeBack(broker: PrivateBroker, client: Bus, targets: number): Promise<number> {
  await broker.restart()
  const begun = Date.now()
  await poll(
    async () => {
      const reply = await client.request('agent.list', {}).catch(() => undefined)
      if (!reply?.accepted) return undefined
      const heard = reply.agents.filter(
        ({ kind, online, lastSeen }) => kind === 'target' && online && Date.parse(lastSeen) >= begun,
      )
      return heard.length === targets ? true : undefined
    },
    { deadlineMs: 180_000, failure: () => 'not all agents came back within 3 min' },
  )
  return (Date.now() - begun) / 1000
}
