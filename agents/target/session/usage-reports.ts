/** When the usage of a session has to be reported. Pure. */
import type { Usage } from '../../../messages/values.ts'
import { REPEAT_MS } from './repetition.ts'

export type FreshUsage = Usage & { readonly freeBytes: number; readonly quotaBytes: number | null }

/** Small changes are reported together, at most this often. Milliseconds. */
export const USAGE_EVERY_MS = 10_000
/** What an operator would notice is reported at once: this share of the quota or of the free space, and this much. */
const NOTICED_SHARE = 0.02
const NOTICED_BYTES = 8 * 1024 * 1024

/**
 * @param before the last report
 * @param sinceMs milliseconds since then
 */
export function usageIsDue(before: Usage, now: FreshUsage, sinceMs: number): boolean {
  // Free space and a share of it change all the time: of them only what is noticed counts.
  if (hasMoved(before.freeBytes, now.freeBytes) || hasMoved(before.quotaBytes, now.quotaBytes)) return true
  const grown = Math.abs((now.changedBytes ?? 0) - (before.changedBytes ?? 0))
  if (now.quotaBytes !== null && grown > now.quotaBytes * NOTICED_SHARE) return true
  // The first changes of a session, and each time that they have doubled.
  if (grown > Math.max(NOTICED_BYTES, before.changedBytes ?? 0)) return true
  if (sinceMs < USAGE_EVERY_MS) return false
  return (
    sinceMs >= REPEAT_MS ||
    before.fetchedBytes !== now.fetchedBytes ||
    before.cacheBytes !== now.cacheBytes ||
    before.changedBytes !== now.changedBytes
  )
}

function hasMoved(before: number | null | undefined, now: number | null): boolean {
  if (typeof before !== 'number' || now === null) return before !== now
  return Math.abs(now - before) > Math.max(NOTICED_BYTES, now * NOTICED_SHARE)
}
