import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { DEAD_LETTERS } from '../../messages/topology.ts'
import { connectRaw } from '../messages/raw-client.ts'
import { catchUp, type OpenSession, tellOfHalfADay } from '../support/backlog.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { type CoordinatorProcess, startCoordinator } from '../support/coordinator-process.ts'
import { type InstantAgents, startInstantAgents } from '../support/instant-agents.ts'
import { poll } from '../support/poll.ts'
import { scratchDirectory } from '../support/scratch.ts'

const logger = pino({ level: 'silent' })
const SESSIONS = 30
const TARGET = { kind: 'target', name: 'db-7' } as const
const EXPIRED_MS = 100

describe('a coordinator that was away for half a day, while agents told of their sessions', function () {
  this.timeout(120_000)
  let vhost: TestVhost
  let directory: string
  let coordinator: CoordinatorProcess
  let agents: InstantAgents
  let client: Bus
  let open: OpenSession[]
  /** Of each session, in their order. */
  const states = new Map<string, string[]>()

  before(async () => {
    vhost = await testVhost()
    directory = await scratchDirectory('howdah-backlog-')
    await start()
    agents = await startInstantAgents(vhost.url, logger)
    client = await connectBus({ url: vhost.url, appId: 'client', role: 'client', logger })
    await client.watchEvents('session.*.state', ({ type, body }) => {
      if (type !== 'session.state') return
      states.set(body.session, [...(states.get(body.session) ?? []), body.state])
    })
    open = await Promise.all(Array.from({ length: SESSIONS }, (_, index) => publish(`shop${index}`)))
    for (const { id } of open) await until(id, 'published')
    coordinator.process.kill('SIGTERM')
    await once(coordinator.process, 'exit')
    states.clear()
  })

  after(async () => {
    await coordinator?.kill()
    await client?.close()
    await agents?.close()
    await vhost?.remove()
    if (directory) await rm(directory, { recursive: true })
  })

  async function start(): Promise<void> {
    const store = { path: path.join(directory, 'store.sqlite') }
    coordinator = await startCoordinator(directory, 'coordinator', { broker: { url: vhost.url }, store })
  }

  async function publish(instance: string): Promise<OpenSession> {
    const body = { repository: 'main', instance, target: TARGET.name }
    for (;;) {
      const reply = await client.request('instance.publish', body).catch(() => undefined)
      if (reply?.accepted) return { id: reply.session, target: TARGET.name }
    }
  }

  const until = (session: string, state: string): Promise<unknown> =>
    poll(() => states.get(session)?.at(-1) === state || undefined, {
      deadlineMs: 30_000,
      failure: () => `${session} is not ${state}, but ${states.get(session)}`,
    })

  it('takes the latest of each for true within seconds, answers meanwhile, and carries out what waited', async () => {
    const [lost, mended, unwanted] = open.slice(-3).map(({ id }) => id) as [string, string, string]
    const others = open.slice(0, -3)
    await tellOfHalfADay(agents, others)
    const unpublished = client.request('session.unpublish', { session: unwanted }, { timeoutMs: 60_000 })
    const reason = 'PostgreSQL ended'
    const loss = { what: 'postgres', reason, afterStep: 4 } as const
    // Its agent was restarted, and found it whole.
    await agents.report(TARGET, 'session.lost', { session: mended, ...loss }, { expiresMs: EXPIRED_MS })
    // What its last step mended, and what came late.
    await agents.report(TARGET, 'session.lost', { session: mended, ...loss, afterStep: 3 })
    await agents.report(TARGET, 'session.lost', { session: lost, ...loss })

    const { seconds, slowestAnswer, outdated, disrupted } = await catchUp(client, others, start)
    expect(seconds).to.be.below(20)
    expect(slowestAnswer).to.be.below(5)
    expect(outdated).to.equal(0)
    await until(lost, 'published')
    expect(states.get(lost)).to.include('disrupted')
    expect((await unpublished).accepted).to.equal(true)
    await until(unwanted, 'closed')
    const calm = others.map(({ id }) => id).concat(mended)
    expect(calm.filter((id) => states.has(id))).to.deep.equal([])
    expect(disrupted).to.be.at.most(1)

    for (const { id } of others) {
      const reply = await client.request('session.show', { session: id })
      const told = reply.accepted ? reply.session : undefined
      expect(told?.changes).to.deep.equal({ changed: true, databases: ['round-10'] })
      expect(told?.reachability).to.equal(undefined)
    }
    const raw = await connectRaw(vhost.url)
    expect((await raw.channel.checkQueue(DEAD_LETTERS.name)).messageCount).to.equal(0)
    await raw.close()
  })
})
