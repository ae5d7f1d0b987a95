/** When a session's mount server counts as unreachable, and when that is news. Pure. */
import type { Reachability } from '../../../messages/values.ts'
import type { MountStatus } from '../mount-process/control-socket.ts'

/** An absence that is over sooner is nobody's concern: the connection is made anew all the time. Milliseconds. */
export const UNREACHABLE_AFTER_MS = 3_000

export type MountLink = Pick<MountStatus, 'connected' | 'lostAt' | 'failedReads' | 'lastError'>

/**
 * What is to be told of the connection of a mount process to its mount server; undefined: what was told holds.
 * `told`: undefined when nothing was told by this agent yet, which may have taken over from another.
 */
export function reachabilityChange(
  link: MountLink,
  told: Reachability | undefined,
  now: number,
): Reachability | undefined {
  const since = link.lostAt
  if (link.connected || since === undefined) {
    if (told?.reachable) return undefined
    return { reachable: true, since: new Date(now).toISOString(), failedReads: 0 }
  }
  if (now - Date.parse(since) < UNREACHABLE_AFTER_MS && link.failedReads === 0) return undefined
  const { failedReads, lastError: reason } = link
  if (told && !told.reachable && told.since === since && told.failedReads === failedReads) return undefined
  return { reachable: false, since, failedReads, ...(reason !== undefined && { reason }) }
}
