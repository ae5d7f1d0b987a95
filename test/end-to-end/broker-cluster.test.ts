/** Three RabbitMQ nodes, of which any one is lost in the middle of the work of two coordinators on a PostgreSQL store. */
import { rm } from 'node:fs/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { type BrokerCluster, NODES, type Node, startBrokerCluster } from '../support/broker-cluster.ts'
import { type CoordinatorProcess, startCoordinator } from '../support/coordinator-process.ts'
import { createFleetClient, type FleetClient } from '../support/fleet-client.ts'
import { type InstantAgents, startInstantAgents } from '../support/instant-agents.ts'
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts'
import { poll } from '../support/poll.ts'
import { createPublishes, type Publishes } from '../support/publishes.ts'
import { scratchDirectory } from '../support/scratch.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
/** Seconds: what does not answer for two or three of them is given up, by clients and by the broker. */
const HEARTBEAT = 2
/** What docs/fleet.md says. */
const AFTER_KILL_MS = 10_000
const AFTER_SILENCE_MS = 35_000

describe('a cluster of three RabbitMQ nodes', function () {
  this.timeout(150_000)
  let cluster: BrokerCluster
  let store: OwnPostgres
  let directory: string
  let agents: InstantAgents
  let client: Bus
  let verbs: FleetClient
  let publishes: Publishes
  const coordinators: CoordinatorProcess[] = []

  before(async () => {
    ;[cluster, store] = await Promise.all([startBrokerCluster(), startOwnPostgres()])
    directory = await scratchDirectory('howdah-cluster-test-')
    const urls = cluster.urls.map((url) => `${url}?heartbeat=${HEARTBEAT}`)
    const config = { broker: { urls }, store: { url: store.url }, log: { level: 'debug' } }
    for (const name of ['first', 'second']) coordinators.push(await startCoordinator(directory, name, config))
    const setUp = await connectBus({ url: urls, appId: 'setup', role: 'coordinator', logger })
    await setUp.enroll({ kind: 'mount', name: 'backup-1' })
    await setUp.enroll({ kind: 'target', name: 'db-7' })
    await setUp.close()
    agents = await startInstantAgents(urls, logger)
    client = await connectBus({ url: urls, appId: 'client', role: 'client', logger })
    verbs = createFleetClient({ bus: client, brokerUrl: urls.join(','), logTails: async () => '' })
    publishes = createPublishes(client, agents)
    // RabbitMQ 3.10 loses track of a quorum queue whose leader is killed within a second of the queue's making.
    for (const begun = Date.now(); Date.now() < begun + 3_000; ) await publishes.publish()
    await publishes.expectPublished()
  })

  afterEach(async function () {
    await cluster.restore()
    if (this.currentTest?.state !== 'failed' || process.env.HOWDAH_TEST_LOG === undefined) return
    for (const { log } of coordinators) process.stderr.write(`${log.slice(-60).join('\n')}\n----\n`)
  })

  after(async () => {
    await client?.close()
    await agents?.close()
    for (const one of coordinators) await one.kill()
    await cluster?.remove()
    await store?.remove()
    if (directory) await rm(directory, { recursive: true })
  })

  const active = (): number => coordinators.filter((one) => one.isActive()).length

  /** The node on which the active coordinator has its lease. */
  async function leaseNode(): Promise<Node> {
    let asked = 0
    return poll(
      () => cluster.leader(NODES[asked++ % 3] as Node, 'howdah.coordinator.lease').catch(() => undefined),
      {
        deadlineMs: 15_000,
        failure: () => 'no node has the lease',
      },
    )
  }

  /** Publishes while the node is lost. @returns the longest that one waited */
  async function publishDuring(lose: () => Promise<void>): Promise<number> {
    const waits = [publishes.publish(), publishes.publish()]
    await lose()
    for (let time = 0; time < 3; time++) waits.push(publishes.publish())
    const longest = Math.max(...(await Promise.all(waits)))
    await publishes.expectPublished()
    expect(active()).to.equal(1)
    return longest
  }

  it('has a copy of every quorum queue on each node', async () => {
    for (const queue of ['howdah.coordinator', 'howdah.coordinator.events', 'howdah.target.db-7'])
      expect(await cluster.members('broker-1', queue), queue).to.have.members([...NODES])
  })

  it(`goes on within ${AFTER_KILL_MS / 1000} s after the node of the lease was killed`, async () => {
    const node = await leaseNode()
    const waited = await publishDuring(() => cluster.kill(node))
    expect(waited).to.be.below(AFTER_KILL_MS)
  })

  it(`goes on within ${AFTER_SILENCE_MS / 1000} s after the node of the lease was stopped, and when it wakes`, async () => {
    const node = await leaseNode()
    const waited = await publishDuring(() => cluster.freeze(node))
    expect(waited).to.be.below(AFTER_SILENCE_MS)
    const after = await publishDuring(() => cluster.thaw(node))
    expect(after).to.be.below(AFTER_KILL_MS)
  })

  it(`goes on within ${AFTER_SILENCE_MS / 1000} s after the node of the lease was cut off, and when it is back`, async () => {
    const node = await leaseNode()
    const waited = await publishDuring(() => cluster.hosts.unplug(node))
    expect(waited).to.be.below(AFTER_SILENCE_MS)
    const after = await publishDuring(() => cluster.hosts.plug(node))
    expect(after).to.be.below(AFTER_KILL_MS)
  })

  it('is said by every verb to take no connections without a majority, and goes on when it has one again', async () => {
    const [, ...lost] = NODES
    for (const node of lost) await cluster.kill(node)
    const { status, stderr } = await verbs.howdah('sessions')
    expect(status).to.equal(1)
    expect(stderr).to.match(/has lost the majority of its nodes/)
    for (const node of NODES) expect(stderr).to.include(cluster.hosts.address(node))
    const waiting = publishes.publish()
    await cluster.start(...lost)
    await waiting
    await publishes.expectPublished()
    expect(active()).to.equal(1)
  })
})
