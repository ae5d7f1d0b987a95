import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { type Cable, makeCable } from '../dataplane/cable.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { type CoordinatorProcess, startCoordinator } from '../support/coordinator-process.ts'
import { type InstantAgents, startInstantAgents } from '../support/instant-agents.ts'
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts'
import { poll } from '../support/poll.ts'
import { createPublishes, type Publishes } from '../support/publishes.ts'
import { scratchDirectory } from '../support/scratch.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const TAKEOVER_AFTER_KILL_MS = 10_000
const TAKEOVER_AFTER_SILENCE_MS = 25_000

describe('two coordinators on one PostgreSQL store', function () {
  this.timeout(120_000)
  let vhost: TestVhost
  let server: OwnPostgres
  let directory: string
  let agents: InstantAgents
  let client: Bus
  const running: CoordinatorProcess[] = []
  let publishes: Publishes
  const publish = (): Promise<number> => publishes.publish()

  before(async () => {
    vhost = await testVhost()
    server = await startOwnPostgres()
    directory = await scratchDirectory('howdah-two-coordinators-')
    const declaring = await connectBus({ url: vhost.url, appId: 'setup', role: 'coordinator', logger })
    await declaring.declareTopology()
    for (const agent of [
      { kind: 'mount', name: 'backup-1' } as const,
      { kind: 'target', name: 'db-7' } as const,
    ])
      await declaring.enroll(agent)
    await declaring.close()
    agents = await startInstantAgents(vhost.url, logger)
    client = await connectBus({ url: vhost.url, appId: 'client', role: 'client', logger })
    publishes = createPublishes(client, agents)
  })

  after(async () => {
    for (const one of running) await one.kill()
    await client?.close()
    await agents?.close()
    await server?.remove()
    await vhost?.remove()
    if (directory) await rm(directory, { recursive: true })
  })

  async function start(
    name: string,
    store: object = { url: server.url },
    url = vhost.url,
  ): Promise<CoordinatorProcess> {
    const coordinator = await startCoordinator(directory, name, { broker: { url }, store })
    running.push(coordinator)
    return coordinator
  }

  const until = (what: string, condition: () => boolean | Promise<boolean>, deadlineMs = 30_000) =>
    poll(async () => (await condition()) || undefined, { deadlineMs, failure: () => `not so: ${what}` })

  let first: CoordinatorProcess
  let second: CoordinatorProcess

  it('are one that is active and one that stands by', async () => {
    first = await start('first')
    second = await start('second')
    await until('the first is active', () => first.isActive())
    await until('the second stands by', () => second.says('stands by') === 1)
    await publish()
    await publishes.expectPublished()
    expect(second.isActive()).to.equal(false)
  })

  it(`go on within ${TAKEOVER_AFTER_KILL_MS / 1000} s after the active one was killed, in the middle of its work`, async () => {
    const work = Promise.all([publish(), publish(), publish()])
    first.process.kill('SIGKILL')
    const took = await publish()
    expect(took).to.be.below(TAKEOVER_AFTER_KILL_MS)
    await work
    expect(second.isActive()).to.equal(true)
    await publishes.expectPublished()
  })

  it(`go on within ${TAKEOVER_AFTER_SILENCE_MS / 1000} s after the active one was stopped in the middle of its work`, async () => {
    first = await start('first')
    await until('the first stands by', () => first.says('stands by') === 1)
    const work = Promise.all([publish(), publish(), publish()])
    second.process.kill('SIGSTOP')
    const took = await publish()
    expect(took).to.be.below(TAKEOVER_AFTER_SILENCE_MS)
    await work
    expect(first.isActive()).to.equal(true)
    await publishes.expectPublished()
  })

  it('stay one that is active when the stopped one wakes, and it takes over again later', async () => {
    second.process.kill('SIGCONT')
    await until('the second has noticed', () => !second.isActive() && second.says('stands by') > 0)
    await publish()
    expect(first.isActive()).to.equal(true)
    await publishes.expectPublished()
    first.process.kill('SIGTERM')
    await once(first.process, 'exit')
    expect(await publish()).to.be.below(TAKEOVER_AFTER_KILL_MS)
    expect(second.isActive()).to.equal(true)
    await publishes.expectPublished()
  })

  /** Makes a coordinator behind a cable the active one, cuts the cable under work, and expects the second to go on in time. */
  async function cutWhileActive(remote: CoordinatorProcess, cable: Cable): Promise<void> {
    await until('the remote one stands by', () => remote.says('stands by') === 1)
    second.process.kill('SIGKILL')
    await until('the remote one is active', () => remote.isActive())
    second = await start('second')
    await until('the second stands by', () => second.says('stands by') === 1)
    const work = Promise.all([publish(), publish()])
    cable.cut()
    const took = await publish()
    expect(took).to.be.below(TAKEOVER_AFTER_SILENCE_MS)
    await work
    expect(second.isActive()).to.equal(true)
  }

  it(`go on within ${TAKEOVER_AFTER_SILENCE_MS / 1000} s after the active one was cut off from the broker, which then stands by`, async () => {
    const { hostname, port } = new URL(vhost.url)
    const cable = await makeCable({ address: { host: hostname, port: Number(port) } })
    try {
      const broker = new URL(vhost.url)
      broker.host = `${cable.address.host}:${cable.address.port}`
      const remote = await start('remote', { url: server.url }, broker.href)
      await cutWhileActive(remote, cable)
      await until('the remote one has noticed', () => !remote.isActive())
      cable.mend()
      await until('the remote one stands by again', () => remote.says('stands by') === 2)
      await publish()
      await publishes.expectPublished()
      expect(second.isActive()).to.equal(true)
      await remote.kill()
    } finally {
      await cable.close()
    }
  })

  it(`go on within ${TAKEOVER_AFTER_SILENCE_MS / 1000} s after the active one was cut off from the store only, which then stands by`, async () => {
    const { hostname, port } = new URL(server.url)
    const cable = await makeCable({ address: { host: hostname, port: Number(port) } })
    try {
      const store = new URL(server.url)
      store.host = `${cable.address.host}:${cable.address.port}`
      const remote = await start('far-from-store', { url: store.href })
      await cutWhileActive(remote, cable)
      expect(remote.isActive()).to.equal(false)
      expect(remote.says('the store has not answered')).to.equal(1)
      await publishes.expectPublished()
      expect(remote.says('stands by'), 'without its store it asks for nothing').to.equal(1)
      cable.mend()
      await until('the remote one stands by again', () => remote.says('stands by') === 2)
      await remote.kill()
    } finally {
      await cable.close()
    }
  })

  it('do not let one with another store start, and tell it why', async () => {
    const stranger = await start('stranger', { path: path.join(directory, 'stranger.sqlite') })
    await until('it has ended', () => stranger.process.exitCode !== null)
    expect(stranger.process.exitCode).to.equal(2)
    expect(stranger.log.join('\n')).to.match(
      /this coordinator has the store .* the broker belongs to .* another/,
    )
    await publish()
    await publishes.expectPublished()
  })
})
