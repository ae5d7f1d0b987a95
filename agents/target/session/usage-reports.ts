/** When the usage of a session has to be reported. Pure. */
import type { Usage } from '../../../messages/values.ts'
import { REPEAT_MS, REPEAT_SETTLED_MS } from './repetition.ts'

export type FreshUsage = Usage & { readonly freeBytes: number; readonly quotaBytes: number | null }

/** Small changes are reported together, at most this often. Milliseconds. */
export const USAGE_EVERY_MS = 10_000
/** What an operator would notice is reported at once: this share of the quota or of the free space, and this much. */
const NOTICED_SHARE = 0.02
const NOTICED_BYTES = 8 * 1024 * 1024

/** A report, how many milliseconds ago it was made, and whether it lasts until it is repeated after long. */
export interface LastReport {
  readonly usage: Usage
  readonly sinceMs: number
  readonly lasts: boolean
}

export function usageIsDue({ usage: before, sinceMs, lasts }: LastReport, now: FreshUsage): boolean {
  // Free space and a share of it change all the time: of them only what is noticed counts.
  if (hasMoved(before.freeBytes, now.freeBytes) || hasMoved(before.quotaBytes, now.quotaBytes)) return true
  const grown = Math.abs((now.changedBytes ?? 0) - (before.changedBytes ?? 0))
  if (now.quotaBytes !== null && grown > now.quotaBytes * NOTICED_SHARE) return true
  // The first changes of a session, and each time that they have doubled.
  if (grown > Math.max(NOTICED_BYTES, before.changedBytes ?? 0)) return true
  if (sinceMs < USAGE_EVERY_MS) return false
  return !isSettled(before, now) || sinceMs >= (lasts ? REPEAT_MS : REPEAT_SETTLED_MS)
}

/** Whether the session has read and written nothing since. Its next report lasts; others are followed by one that says more. */
export function isSettled(before: Usage, now: FreshUsage): boolean {
  return (
    before.fetchedBytes === now.fetchedBytes &&
    before.cacheBytes === now.cacheBytes &&
    before.changedBytes === now.changedBytes
  )
}

function hasMoved(before: number | null | undefined, now: number | null): boolean {
  if (typeof before !== 'number' || now === null) return before !== now
  return Math.abs(now - before) > Math.max(NOTICED_BYTES, now * NOTICED_SHARE)
}
