/**
 * Owns work on a cluster of three RabbitMQ nodes: two coordinators on a PostgreSQL store, agents that do every step at once,
 * and a client that publishes while a node is lost.
 */
import { rm } from 'node:fs/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import { type BrokerCluster, NODES, type Node, startBrokerCluster } from './broker-cluster.ts'
import { type CoordinatorProcess, startCoordinator } from './coordinator-process.ts'
import { createFleetClient, type FleetClient } from './fleet-client.ts'
import { startInstantAgents } from './instant-agents.ts'
import { startOwnPostgres } from './own-postgres.ts'
import { poll } from './poll.ts'
import { createPublishes, type Publishes } from './publishes.ts'
import { scratchDirectory } from './scratch.ts'

/** What docs/fleet.md says of how long a publish may wait: when a node was killed, and when one hangs or is cut off. */
export const AFTER_KILL_MS = 10_000
export const AFTER_SILENCE_MS = 35_000
/** Seconds: what does not answer for two or three of them is given up, by clients and by the broker. */
const HEARTBEAT = 2

export interface ClusterWork {
  readonly cluster: BrokerCluster
  readonly verbs: FleetClient
  readonly publishes: Publishes
  /** The last lines of both coordinators' logs. */
  readonly logs: string
  /** The node on which the active coordinator has its lease. */
  leaseNode(): Promise<Node>
  /**
   * Publishes before and after something is done to a node, and waits until all of it is published, once.
   * @returns milliseconds that the one waited that waited longest
   */
  publishDuring(change: () => Promise<void>): Promise<number>
  /** Everything that was asked for is published, and one coordinator is active. */
  expectWorking(): Promise<void>
  remove(): Promise<void>
}

export async function startClusterWork(): Promise<ClusterWork> {
  const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
  const undo: (() => Promise<unknown>)[] = []
  const coordinators: CoordinatorProcess[] = []
  const remove = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step()
  }

  async function start(): Promise<ClusterWork> {
    const directory = await scratchDirectory('howdah-cluster-test-')
    undo.push(() => rm(directory, { recursive: true }))
    const [clusterStart, storeStart] = await Promise.allSettled([startBrokerCluster(), startOwnPostgres()])
    for (const one of [clusterStart, storeStart])
      if (one.status === 'fulfilled') undo.push(() => one.value.remove())
    if (clusterStart.status === 'rejected') throw clusterStart.reason
    if (storeStart.status === 'rejected') throw storeStart.reason
    const [cluster, store] = [clusterStart.value, storeStart.value]
    const urls = cluster.urls.map((url) => `${url}?heartbeat=${HEARTBEAT}`)
    const config = { broker: { urls }, store: { url: store.url }, log: { level: 'debug' } }
    for (const name of ['first', 'second']) {
      const one = await startCoordinator(directory, name, config)
      undo.push(() => one.kill())
      coordinators.push(one)
    }
    const setUp = await connectBus({ url: urls, appId: 'setup', role: 'coordinator', logger })
    await setUp.enroll({ kind: 'mount', name: 'backup-1' })
    await setUp.enroll({ kind: 'target', name: 'db-7' })
    await setUp.close()
    const agents = await startInstantAgents(urls, logger)
    undo.push(() => agents.close())
    const client = await connectBus({ url: urls, appId: 'client', role: 'client', logger })
    undo.push(() => client.close())
    const publishes = createPublishes(client, agents)
    // RabbitMQ 3.10 loses track of a quorum queue whose leader is killed within a second of the queue's making.
    for (const begun = Date.now(); Date.now() < begun + 3_000; ) await publishes.publish()
    await publishes.expectPublished()

    async function expectWorking(): Promise<void> {
      await publishes.expectPublished()
      expect(coordinators.filter((one) => one.isActive())).to.have.length(1)
    }

    return {
      cluster,
      verbs: createFleetClient({ bus: client, brokerUrl: urls.join(','), logTails: async () => '' }),
      publishes,
      get logs() {
        return coordinators.map(({ log }) => `${log.slice(-60).join('\n')}\n----\n`).join('')
      },
      async leaseNode() {
        let asked = 0
        return poll(
          () => cluster.leader(NODES[asked++ % 3] as Node, 'howdah.coordinator.lease').catch(() => undefined),
          { deadlineMs: 15_000, failure: () => 'no node has the lease' },
        )
      },
      async publishDuring(change) {
        const waits = [publishes.publish(), publishes.publish()]
        await change()
        for (let time = 0; time < 3; time++) waits.push(publishes.publish())
        const longest = Math.max(...(await Promise.all(waits)))
        await expectWorking()
        return longest
      },
      expectWorking,
      remove,
    }
  }

  try {
    return await start()
  } catch (error) {
    await remove()
    throw error
  }
}
