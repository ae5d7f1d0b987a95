/** When a session's mount server counts as unreachable, and when that has to be reported. Pure. */
import type { Reachability } from '../../../messages/values.ts'
import type { MountStatus } from '../mount-process/control-socket.ts'

/** A shorter interruption is not reported: the connection is re-established routinely. Milliseconds. */
export const UNREACHABLE_AFTER_MS = 3_000

export type MountLink = Pick<MountStatus, 'connected' | 'lostAt' | 'failedReads' | 'lastError'>

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
