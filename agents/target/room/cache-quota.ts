/**
 * Divides the space that the operator allows for write caches among the sessions of a target. The free part is shared out
 * again after every measurement, so no session can use what another has been given. Writes that the kernel accepted
 * before a share became smaller may exceed it. Enforces nothing: steps/ and session-watch.ts send quotas to mount processes.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MEASURE_DEADLINE_MS = 60_000

export interface CacheQuota {
  /** Adds a session, which has a share from now on. */
  add(session: string): void
  /** Updates the usage of a session. The quota limits `changedBytes`; `otherBytes`, its WAL, is used in addition. */
  update(session: string, usage: { readonly changedBytes: number; readonly otherBytes: number }): void
  /** Measures a cache that is kept, which has no share. Never rejects: one that cannot be measured counts as empty. */
  addKept(session: string, cachePath: string): Promise<void>
  /** Removes a session whose cache was removed. */
  remove(session: string): void
  /** Bytes that the changes of a session may use; undefined: no limit but the reserve. */
  quotaOf(session: string): number | undefined
}

export interface CacheQuotaOptions {
  /** For one session; 0: no limit. */
  readonly quotaBytes: number
  /** For all of them together; null: no limit. */
  readonly limitBytes: number | null
}

export function createCacheQuota({ quotaBytes, limitBytes }: CacheQuotaOptions): CacheQuota {
  const usages = new Map<string, { changedBytes: number; otherBytes: number; grows: boolean }>()
  const own = quotaBytes > 0 ? quotaBytes : Number.POSITIVE_INFINITY

  return {
    add(session) {
      usages.set(session, { changedBytes: 0, otherBytes: 0, ...usages.get(session), grows: true })
    },
    update(session, usage) {
      usages.set(session, { ...usage, grows: true })
    },
    async addKept(session, cachePath) {
      const { stdout } = await run('du', ['-s', '-B1', cachePath], { timeout: MEASURE_DEADLINE_MS }).catch(
        () => ({ stdout: '0' }),
      )
      usages.set(session, { changedBytes: Number.parseInt(stdout, 10) || 0, otherBytes: 0, grows: false })
    },
    remove(session) {
      usages.delete(session)
    },
    quotaOf(session) {
      const share = limitBytes === null ? Number.POSITIVE_INFINITY : shareOf(session, limitBytes)
      const quota = Math.min(own, share)
      return quota === Number.POSITIVE_INFINITY ? undefined : quota
    },
  }

  function shareOf(session: string, limit: number): number {
    const all = [...usages.values()]
    const used = all.reduce((sum, { changedBytes, otherBytes }) => sum + changedBytes + otherBytes, 0)
    const growing = all.filter(({ grows }) => grows).length
    const free = Math.max(0, limit - used)
    return (usages.get(session)?.changedBytes ?? 0) + Math.floor(free / Math.max(1, growing))
  }
}
