/** When a session's mount server counts as unreachable, and when that has to be reported. */
import type { Reachability } from '../../../messages/values.ts'
import type { MountStatus } from '../mount-process/control-socket.ts'
import { REPEAT_MS, REPEAT_TROUBLE_MS } from './repetition.ts'

/** A shorter interruption is not reported: the connection is re-established routinely. Milliseconds. */
export const UNREACHABLE_AFTER_MS = 3_000

export type MountLink = Pick<MountStatus, 'connected' | 'lostAt' | 'failedReads' | 'lastError'>

export interface ReachabilityReport {
  /** What was reported last. */
  readonly reported: Reachability | undefined
  /** Reports what changed, and at long intervals what did not. @throws what the report throws; it is made at the next look */
  look(link: MountLink): Promise<void>
}

export function createReachabilityReport(
  report: (reachability: Reachability, changed: boolean) => Promise<void>,
  now: () => number = Date.now,
): ReachabilityReport {
  let reported: Reachability | undefined
  let reportedAt = 0
  return {
    get reported() {
      return reported
    },
    async look(link) {
      const repeatMs = reported?.reachable === false ? REPEAT_TROUBLE_MS : REPEAT_MS
      const isRepeated = now() - reportedAt >= repeatMs
      const change = reachabilityChange(link, isRepeated ? undefined : reported, now())
      if (!change) return
      await report(change, change.reachable !== reported?.reachable)
      reported = change
      reportedAt = now()
    },
  }
}

/**
 * The reachability to report of a mount process's connection to its mount server; undefined: the last report still holds.
 * @param reported the last report; undefined: none by this agent, which may have replaced another
 */
export function reachabilityChange(
  link: MountLink,
  reported: Reachability | undefined,
  now: number,
): Reachability | undefined {
  const since = link.lostAt
  if (link.connected || since === undefined) {
    if (reported?.reachable) return undefined
    return { reachable: true, since: new Date(now).toISOString(), failedReads: 0 }
  }
  if (now - Date.parse(since) < UNREACHABLE_AFTER_MS && link.failedReads === 0) return undefined
  const { failedReads, lastError: reason } = link
  if (reported && !reported.reachable && reported.since === since && reported.failedReads === failedReads)
    return undefined
  return { reachable: false, since, failedReads, ...(reason !== undefined && { reason }) }
}
