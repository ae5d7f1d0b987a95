/**
 * Shares out the space that the operator allows for the write caches of a target. A share is a reservation: what one session
 * gets is taken from what no other may come to use, so all together stay within the limit however fast they grow. A
 * session whose share is reduced gives the rest free only when its mount process has answered, and keeps what it uses and
 * what the kernel has accepted of it. What nothing can refuse is counted when it is seen: WAL beyond what a session has for
 * it, and what PostgreSQL needs to start on a full cache.
 *
 * Mount processes enforce the shares: filesystem/space/.
 */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Logger } from 'pino'
import type { SpaceQuotas } from '../filesystem/space/change-quota.ts'
import { divide, uncommitted, unusedBytes } from './division.ts'
import { type ShareHolder, WriteCache } from './write-cache.ts'

const run = promisify(execFile)
const MEASURE_DEADLINE_MS = 60_000
/** Interval at which the free space is divided again. */
const ROUND_MS = 500
/** A round does not wait longer for the answers of mount processes; those that come later count in the next. */
const ANSWER_MS = 1000
const RESERVE_MS = 5000
const RESERVE_POLL_MS = 50
/** The part of what is unused, as a divisor, by which a share must differ from what it should be to be changed. */
const TOLERANCE = 64

export interface CacheShares {
  /**
   * Reserves a share for a session that is about to be mounted; the others are reduced for it first. Returns the limits to
   * mount it with. The share is small when the others use everything or do not answer; it is raised when they do.
   */
  reserve(session: string): Promise<SpaceQuotas>
  /** The mount process of a session, which is told its limits from now on. */
  attach(session: string, holder: ShareHolder): void
  /** A cache that no mount process changes: it is measured. Never rejects: one that cannot be measured counts as empty. */
  addIdle(session: string, cachePath: string): Promise<void>
  /** Removes a session whose cache was removed. */
  remove(session: string): void
  /** Bytes that changes and WAL of the session may use; undefined: no limit. */
  shareOf(session: string): number | undefined
  /** Divides the free space again, as it does by itself every half second. Never rejects. */
  redistribute(): Promise<void>
  close(): void
}

export interface CacheSharesOptions {
  /** For the changes of one session; 0: no limit. */
  readonly quotaBytes: number
  /** For changes and WAL of all of them together; null: no limit. */
  readonly limitBytes: number | null
  /** How long a new session waits until the others have given it room, ms. */
  readonly reserveMs?: number
  readonly logger: Logger
}

export function createCacheShares(options: CacheSharesOptions): CacheShares {
  const { quotaBytes, limitBytes, reserveMs = RESERVE_MS, logger } = options
  const caches = new Map<string, WriteCache>()
  const own = quotaBytes > 0 ? quotaBytes : undefined
  let round: Promise<void> | undefined

  function cacheOf(session: string, committedBytes = 0): WriteCache {
    const known = caches.get(session)
    if (known !== undefined) return known
    const cache = new WriteCache(logger)
    cache.committedBytes = committedBytes
    caches.set(session, cache)
    return cache
  }

  function redistribute(): Promise<void> {
    const all = [...caches.values()]
    round ??= (limitBytes === null ? tellQuotas(all, own) : redistributeOnce(all, limitBytes, own)).finally(
      () => {
        round = undefined
      },
    )
    return round
  }

  const timer = setInterval(() => void redistribute(), ROUND_MS)
  timer.unref()

  return {
    async reserve(session) {
      const cache = cacheOf(session)
      cache.setHolder(undefined)
      cache.grows = true
      if (limitBytes === null) return { quotaBytes: own }
      const giveUp = Date.now() + reserveMs
      for (;;) {
        // One that has begun may not know of this session.
        await round
        await redistribute()
        const all = [...caches.values()]
        const target = divide(limitBytes, all).get(cache) ?? 0
        const shareBytes = Math.min(target, cache.committedBytes + uncommitted(limitBytes, all))
        cache.reserve(shareBytes)
        if (shareBytes >= target / 2 || Date.now() >= giveUp) return { quotaBytes: own, shareBytes }
        await sleep(RESERVE_POLL_MS)
      }
    },
    attach(session, holder) {
      const cache = cacheOf(session, Number.POSITIVE_INFINITY)
      cache.setHolder(holder)
      cache.grows = true
    },
    async addIdle(session, cachePath) {
      const cache = cacheOf(session, Number.POSITIVE_INFINITY)
      cache.setHolder(undefined)
      cache.grows = false
      const bytes = await diskUsage(cachePath)
      // It may have been published again meanwhile.
      if (!cache.grows) cache.usedBytes = cache.neededBytes = cache.committedBytes = bytes
    },
    remove(session) {
      caches.delete(session)
    },
    shareOf: (session) => (limitBytes === null ? undefined : caches.get(session)?.shareBytes),
    redistribute,
    close: () => clearInterval(timer),
  }
}

/** Without a limit for all, each mount process is told the quota once. */
async function tellQuotas(caches: readonly WriteCache[], quotaBytes: number | undefined): Promise<void> {
  const untold = caches.filter(({ isHeld, told }) => isHeld && !told)
  await answered(untold.map((cache) => cache.tell({ quotaBytes })))
}

/** First all report; then they give up what exceeds their shares; then those below theirs get what is free. */
async function redistributeOnce(
  caches: readonly WriteCache[],
  limit: number,
  quotaBytes: number | undefined,
): Promise<void> {
  const held = caches.filter(({ isHeld }) => isHeld)
  await answered(held.map((cache) => cache.refresh()))
  const targets = divide(limit, caches)
  const tolerance = unusedBytes(limit, caches) / TOLERANCE
  const excess = (cache: WriteCache) => cache.committedBytes - (targets.get(cache) ?? 0)
  const tell = (cache: WriteCache, shareBytes: number) => cache.tell({ quotaBytes, shareBytes })
  await answered(
    held
      .filter((cache) => !cache.told || excess(cache) > tolerance)
      .map((cache) => tell(cache, Math.min(targets.get(cache) ?? 0, cache.committedBytes))),
  )
  const below = held.filter((cache) => excess(cache) < -tolerance).sort((a, b) => excess(a) - excess(b))
  await answered(
    below.map(async (cache) => {
      const gained = Math.min(-excess(cache), uncommitted(limit, caches))
      if (gained > tolerance) await tell(cache, cache.committedBytes + gained)
    }),
  )
}

/** Waits for requests, but not for those that are late. They never reject. */
async function answered(requests: readonly Promise<void>[]): Promise<void> {
  const inTime = new AbortController()
  const late = sleep(ANSWER_MS, undefined, { signal: inTime.signal }).catch(() => undefined)
  await Promise.race([Promise.all(requests), late])
  inTime.abort()
}

async function diskUsage(directory: string): Promise<number> {
  const du = run('du', ['-s', '-B1', directory], { timeout: MEASURE_DEADLINE_MS })
  const { stdout } = await du.catch(() => ({ stdout: '0' }))
  return Number.parseInt(stdout, 10) || 0
}
