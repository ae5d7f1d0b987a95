/** Owns the run in which a node of a RabbitMQ cluster hangs, and is cut off, in the middle of the work of a fleet. */
import {
  AFTER_KILL_MS,
  AFTER_SILENCE_MS,
  type ClusterWork,
  startClusterWork,
} from '../support/cluster-work.ts'

/** @returns whether everything was published in the time that docs/fleet.md says; prints how long it took */
export async function runBrokerCluster(log: (text: string) => void): Promise<boolean> {
  let passed = true
  let work: ClusterWork | undefined

  /** Loses the node of the lease, and brings it back, both while a client publishes. */
  async function lose(
    { cluster, leaseNode, publishDuring }: ClusterWork,
    how: 'hangs' | 'is cut off',
  ): Promise<void> {
    const node = await leaseNode()
    const [away, back] =
      how === 'hangs'
        ? [() => cluster.freeze(node), () => cluster.thaw(node)]
        : [() => cluster.hosts.unplug(node), () => cluster.hosts.plug(node)]
    judge(`the node of the lease ${how}`, await publishDuring(away), AFTER_SILENCE_MS)
    judge('it is back', await publishDuring(back), AFTER_KILL_MS)
    await cluster.restore()
  }

  function judge(what: string, waitedMs: number, limitMs: number): void {
    const isInTime = waitedMs < limitMs
    passed &&= isInTime
    const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
    log(`${isInTime ? '' : 'FAILED: '}${what}: at most ${seconds(waitedMs)} of ${seconds(limitMs)}`)
  }

  try {
    work = await startClusterWork()
    for (const how of ['hangs', 'is cut off'] as const) await lose(work, how)
    return passed
  } catch (error) {
    log(`FAILED: ${error instanceof Error ? error.stack : String(error)}\n${work?.logs ?? ''}`)
    return false
  } finally {
    await work?.remove()
  }
}
