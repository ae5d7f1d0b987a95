/**
 * Three RabbitMQ nodes, of which some are killed in the middle of the work of two coordinators on a PostgreSQL store.
 * `npm run soak -- broker-cluster` has those that hang and those that are cut off.
 */
import { expect } from 'chai'
import { NODES } from '../support/broker-cluster.ts'
import { AFTER_KILL_MS, type ClusterWork, startClusterWork } from '../support/cluster-work.ts'

describe('a cluster of three RabbitMQ nodes', function () {
  this.timeout(150_000)
  let work: ClusterWork

  before(async () => {
    work = await startClusterWork()
  })

  afterEach(async function () {
    if (this.currentTest?.state === 'failed' && process.env.HOWDAH_TEST_LOG !== undefined)
      process.stderr.write(work.logs)
    await work.cluster.restore()
  })

  after(() => work?.remove())

  it('has a copy of every quorum queue on each node', async () => {
    for (const queue of ['howdah.coordinator', 'howdah.coordinator.events', 'howdah.target.db-7'])
      expect(await work.cluster.members('broker-1', queue), queue).to.have.members([...NODES])
  })

  it(`goes on within ${AFTER_KILL_MS / 1000} s after the node of the lease was killed`, async () => {
    const node = await work.leaseNode()
    expect(await work.publishDuring(() => work.cluster.kill(node))).to.be.below(AFTER_KILL_MS)
  })

  it('is said by every verb to take no connections without a majority, and goes on when it has one again', async () => {
    const { cluster, verbs, publishes } = work
    const [, ...lost] = NODES
    await Promise.all(lost.map((node) => cluster.kill(node)))
    const { status, stderr } = await verbs.howdah('sessions')
    expect(status).to.equal(1)
    expect(stderr).to.match(/has lost the majority of its nodes/)
    for (const node of NODES) expect(stderr).to.include(cluster.hosts.address(node))
    const waiting = publishes.publish()
    await cluster.start(...lost)
    await waiting
    await work.expectWorking()
  })
})
