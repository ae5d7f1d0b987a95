/**
 * Watches published sessions: reports their usage, whether they reach their mount server, and the loss of their mount or
 * their PostgreSQL. It repairs nothing: the coordinator sends the steps again. A report that fails because the broker is
 * unreachable is repeated at a later check; and all are repeated at long intervals (repetition.ts).
 */
import { statfs } from 'node:fs/promises'
import type { Logger } from 'pino'
import { isAlive, type ProcessIdentity } from '../../../config/process-identity.ts'
import type { EventBody } from '../../../messages/definitions.ts'
import type { Reachability, Usage } from '../../../messages/values.ts'
import { findMountProcess, type MountProcess, SILENCE_MS } from '../mount-process/agent/mount-process.ts'
import type { MountStatus } from '../mount-process/control-socket.ts'
import { cachePaths, readMountSpec } from '../mount-process/mount-spec.ts'
import { findInstance } from '../postgres/instance.ts'
import type { PublishedSession } from './published-session.ts'
import { createReachabilityReport, type ReachabilityReport } from './reachability.ts'
import { REPEAT_LOST_MS } from './repetition.ts'
import { type FreshUsage, isSettled, usageIsDue } from './usage-reports.ts'

/** `lost`: its mount or its PostgreSQL does not run; `cut_off`: both do, and the mount server cannot be reached. */
export type Condition = 'whole' | 'lost' | 'cut_off'

export interface SessionWatch {
  /** Starts watching a published session. Safe to repeat. */
  add(session: PublishedSession): Promise<void>
  /** Stops watching: changes to the session from now on are intended. */
  remove(session: string): void
  /** Of each session that is watched, as the last check found it. */
  conditions(): Condition[]
  /** The mount processes that run. */
  mounts(): { readonly session: string; readonly mount: MountProcess }[]
  close(): void
}

export interface SessionWatchOptions {
  readonly lost: (event: EventBody<'session.lost'>) => Promise<void>
  /** Milliseconds after which a loss is reported again, until the session is added again or removed. */
  readonly repeatLostMs?: number
  /** `lasts`: no other follows soon. */
  readonly usage: (session: string, usage: Usage, lasts: boolean) => Promise<void>
  readonly reachability: (session: string, reachability: Reachability) => Promise<void>
  /**
   * Called at every check of a session that is complete and reaches its mount server, since what it reads may have to be
   * fetched. Throttles itself, and returns at once.
   */
  readonly changes: (session: PublishedSession) => void
  readonly logger: Logger
}

interface WatchedSession {
  readonly session: PublishedSession
  readonly parts: Parts | Missing
  reported: Usage | undefined
  usageAt: number
  usageLasts: boolean
  reportedAt: number
  connected: boolean
  readonly reachability: ReachabilityReport
  /** When its loss was last reported; 0: it is whole. */
  lostAt: number
  /** A check is in progress; it may wait for a mount process that does not answer. */
  checking: boolean
}

interface Parts {
  readonly mount: MountProcess
  mountEnded: boolean
  readonly reserveBytes: number
  readonly postmaster: ProcessIdentity
}

interface Missing {
  readonly what: EventBody<'session.lost'>['what']
  readonly reason: string
}

/** Interval between checks of a session. Milliseconds. */
const CHECK_EVERY_MS = 500
/** A session is measured at most this often. Milliseconds. */
const REPORT_EVERY_MS = 2_000

export function createSessionWatch(options: SessionWatchOptions): SessionWatch {
  const { repeatLostMs = REPEAT_LOST_MS, lost, usage, reachability, logger } = options
  const watched = new Map<string, WatchedSession>()

  async function check(entry: WatchedSession): Promise<void> {
    const { session, parts } = entry
    const missing = missingPart(parts)
    if (watched.get(session.session) !== entry) return
    if (missing === undefined) {
      if (entry.connected) options.changes(session)
      if (Date.now() - entry.reportedAt >= REPORT_EVERY_MS) await report(entry, parts as Parts)
      return
    }
    if (Date.now() - entry.lostAt < repeatLostMs) return
    logger.warn({ session: session.session, ...missing }, 'a published session lost a part')
    const reason = `${missing.reason}; the log is in ${session.cachePath}/log`
    await lost({ session: session.session, what: missing.what, reason })
    entry.lostAt = Date.now()
  }

  async function report(entry: WatchedSession, parts: Parts): Promise<void> {
    entry.reportedAt = Date.now()
    const { session } = entry
    const { mount } = parts
    const [status, disk] = await Promise.all([mount.status(), statfs(session.cachePath)])
    entry.connected = status.connected
    await entry.reachability.look(status)
    if (watched.get(session.session) !== entry) return
    const now = usageOf(status, disk.bavail * disk.bsize, parts.reserveBytes)
    const { reported, usageAt, usageLasts } = entry
    const last = reported && { usage: reported, sinceMs: Date.now() - usageAt, lasts: usageLasts }
    if (last !== undefined && !usageIsDue(last, now)) return
    const lasts = reported !== undefined && isSettled(reported, now)
    await usage(session.session, now, lasts)
    entry.reported = now
    entry.usageAt = Date.now()
    entry.usageLasts = lasts
  }

  async function checkOnce(entry: WatchedSession): Promise<void> {
    if (entry.checking) return
    entry.checking = true
    try {
      await check(entry)
    } catch (error) {
      logger.warn({ err: error, session: entry.session.session }, 'watching a session failed')
    } finally {
      entry.checking = false
    }
  }

  const timer = setInterval(() => {
    for (const entry of watched.values()) void checkOnce(entry)
  }, CHECK_EVERY_MS)

  return {
    async add(session) {
      if (isWhole(watched.get(session.session))) return
      const parts = await findParts(session)
      if (isWhole(watched.get(session.session))) return
      const entry = {
        session,
        parts,
        reported: undefined,
        usageAt: 0,
        usageLasts: false,
        reportedAt: 0,
        connected: false,
        reachability: createReachabilityReport((found, changed) => {
          if (changed) {
            logger.info(
              { session: session.session, ...found },
              'the reachability of the mount server changed',
            )
          }
          return reachability(session.session, found)
        }),
        lostAt: 0,
        checking: false,
      }
      watched.set(session.session, entry)
      void checkOnce(entry)
    },
    remove(session) {
      watched.delete(session)
    },
    conditions: () =>
      [...watched.values()].map(({ parts, reachability: reach }) => {
        if (missingPart(parts) !== undefined) return 'lost'
        return reach.reported?.reachable === false ? 'cut_off' : 'whole'
      }),
    mounts: () =>
      [...watched.values()].flatMap(({ session: { session }, parts }) =>
        'what' in parts || parts.mountEnded ? [] : [{ session, mount: parts.mount }],
      ),
    close() {
      clearInterval(timer)
      watched.clear()
    },
  }
}

async function findParts(session: PublishedSession): Promise<Parts | Missing> {
  const [mount, instance] = await Promise.all([findMountProcess(session.cachePath), findInstance(session)])
  if (!mount) return { what: 'mount', reason: 'the mount process does not run' }
  if (!instance) return { what: 'postgres', reason: 'PostgreSQL does not run' }
  const { reserveBytes } = readMountSpec(cachePaths(session.cachePath).spec)
  const parts: Parts = {
    mount,
    mountEnded: false,
    reserveBytes,
    postmaster: instance.postmaster,
  }
  void mount.ended.then(() => {
    parts.mountEnded = true
  })
  return parts
}

function missingPart(parts: Parts | Missing): Missing | undefined {
  if ('what' in parts) return parts
  if (parts.mountEnded) return { what: 'mount', reason: 'the mount process ended' }
  if (parts.mount.hangs) {
    return { what: 'mount', reason: `the mount process has not answered for ${SILENCE_MS / 1000} s` }
  }
  if (!isAlive(parts.postmaster)) return { what: 'postgres', reason: 'PostgreSQL ended' }
  return undefined
}

function isWhole(entry: WatchedSession | undefined): boolean {
  return entry !== undefined && missingPart(entry.parts) === undefined
}

function usageOf(
  { fetchedBytes, totalBytes, changedBytes, walBytes, quotaBytes }: MountStatus,
  available: number,
  reserveBytes: number,
): FreshUsage {
  const freeBytes = Math.max(0, available - reserveBytes)
  const cacheBytes = changedBytes + walBytes
  return { fetchedBytes, totalBytes, cacheBytes, changedBytes, quotaBytes, reserveBytes, freeBytes }
}
