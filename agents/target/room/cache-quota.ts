/**
 * Keeps the write caches of all sessions of a target together within what its operator allows: what is left of that is
 * shared out anew at every look, so that nobody can take what another one has got. What the kernel has accepted before
 * a share became smaller is taken over it.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MEASURE_DEADLINE_MS = 60_000

export interface CacheQuota {
  /** It will take something, and has a share from now on. */
  joins(session: string): void
  /** What a session takes. `changedBytes` is what a quota bounds, `otherBytes` comes on top: its WAL. */
  takes(session: string, use: { readonly changedBytes: number; readonly otherBytes: number }): void
  /** A cache that is kept takes what it takes. Never rejects: one that cannot be measured counts as nothing. */
  keeps(session: string, cachePath: string): Promise<void>
  /** Nothing is left of it. */
  gone(session: string): void
  /** What the changes of a session may take; undefined: no limit but the reserve. */
  quotaOf(session: string): number | undefined
}

export interface CacheQuotaOptions {
  /** For one session; 0: no limit. */
  readonly quotaBytes: number
  /** For all of them together; null: no limit. */
  readonly limitBytes: number | null
}

export function createCacheQuota({ quotaBytes, limitBytes }: CacheQuotaOptions): CacheQuota {
  const uses = new Map<string, { changedBytes: number; otherBytes: number; grows: boolean }>()
  const own = quotaBytes > 0 ? quotaBytes : Number.POSITIVE_INFINITY

  return {
    joins(session) {
      uses.set(session, { changedBytes: 0, otherBytes: 0, ...uses.get(session), grows: true })
    },
    takes(session, use) {
      uses.set(session, { ...use, grows: true })
    },
    async keeps(session, cachePath) {
      const { stdout } = await run('du', ['-s', '-B1', cachePath], { timeout: MEASURE_DEADLINE_MS }).catch(
        () => ({ stdout: '0' }),
      )
      uses.set(session, { changedBytes: Number.parseInt(stdout, 10) || 0, otherBytes: 0, grows: false })
    },
    gone(session) {
      uses.delete(session)
    },
    quotaOf(session) {
      const share = limitBytes === null ? Number.POSITIVE_INFINITY : shareOf(session, limitBytes)
      const quota = Math.min(own, share)
      return quota === Number.POSITIVE_INFINITY ? undefined : quota
    },
  }

  function shareOf(session: string, limit: number): number {
    const all = [...uses.values()]
    const taken = all.reduce((sum, { changedBytes, otherBytes }) => sum + changedBytes + otherBytes, 0)
    const growing = all.filter(({ grows }) => grows).length
    const left = Math.max(0, limit - taken)
    return (uses.get(session)?.changedBytes ?? 0) + Math.floor(left / Math.max(1, growing))
  }
}
