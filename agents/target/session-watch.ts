/**
 * Watches published sessions: reports what they read and keep, and when their mount or their PostgreSQL is gone. It
 * mends nothing itself; the coordinator sends the steps again.
 */
import { readdir, stat, statfs } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { EventBody } from '../../messages/definitions.ts'
import type { Usage } from '../../messages/values.ts'
import { isAlive, type ProcessIdentity } from '../runtime/process-identity.ts'
import { findMountProcess, type MountProcess } from './mount-process/mount-process.ts'
import { cachePaths, readMountSpec } from './mount-process/mount-spec.ts'
import { findInstance } from './postgres/instance.ts'
import type { PublishedSession } from './published-session.ts'

export interface SessionWatch {
  /** Begins to watch a session that is published, and reports its usage. Safe to repeat. */
  add(session: PublishedSession): Promise<void>
  /** Stops watching: what happens to the session from now on is meant to happen. */
  remove(session: string): void
  close(): void
}

export interface SessionWatchOptions {
  readonly lost: (event: EventBody<'session.lost'>) => Promise<void>
  readonly usage: (session: string, usage: Usage) => Promise<void>
  readonly logger: Logger
}

interface Watched {
  readonly session: PublishedSession
  readonly mount: MountProcess
  /** What the mount process was told, which a changed configuration does not change. */
  readonly limits: { readonly quotaBytes: number | null; readonly reserveBytes: number }
  mountEnded: boolean
  readonly postmaster: ProcessIdentity
  reported: Usage | undefined
  reportedAt: number
}

/** Between two looks at a session. Milliseconds. */
const LOOK_EVERY_MS = 500
/** Usage is reported at most this often. Milliseconds. */
const REPORT_EVERY_MS = 2_000

export function createSessionWatch({ lost, usage, logger }: SessionWatchOptions): SessionWatch {
  const watched = new Map<string, Watched>()
  let timer: NodeJS.Timeout | undefined
  let closed = false

  async function look(entry: Watched): Promise<void> {
    const { session, postmaster } = entry
    const goneMount = entry.mountEnded ? 'the mount process ended' : undefined
    const gonePostgres = isAlive(postmaster) ? undefined : 'PostgreSQL ended'
    if (watched.get(session.session) !== entry) return
    const reason = goneMount ?? gonePostgres
    if (reason === undefined) {
      if (Date.now() - entry.reportedAt >= REPORT_EVERY_MS) await report(entry)
      return
    }
    logger.warn({ session: session.session, reason }, 'a published session lost a part')
    await lost({
      session: session.session,
      what: goneMount ? 'mount' : 'postgres',
      reason: `${reason}; the log is in ${session.cachePath}/log`,
    })
    if (watched.get(session.session) === entry) watched.delete(session.session)
  }

  async function report(entry: Watched): Promise<void> {
    entry.reportedAt = Date.now()
    const { session, mount, limits } = entry
    const [status, walBytes, disk] = await Promise.all([
      mount.status(),
      allocatedBytes(cachePaths(session.cachePath).wal),
      statfs(session.cachePath),
    ])
    const { fetchedBytes, totalBytes, changedBytes } = status
    const cacheBytes = changedBytes + walBytes
    const freeBytes = Math.max(0, disk.bavail * disk.bsize - limits.reserveBytes)
    const now = { fetchedBytes, totalBytes, cacheBytes, changedBytes, ...limits, freeBytes }
    if (entry.reported !== undefined && !isNews(entry.reported, now)) return
    entry.reported = now
    await usage(session.session, now)
  }

  function schedule(): void {
    timer = setTimeout(async () => {
      const looks = [...watched.values()].map((entry) =>
        look(entry).catch((error: unknown) =>
          logger.warn({ err: error, session: entry.session.session }, 'watching a session failed'),
        ),
      )
      await Promise.all(looks)
      if (!closed) schedule()
    }, LOOK_EVERY_MS)
  }

  schedule()

  return {
    async add(session) {
      if (watched.has(session.session)) return
      const [mount, instance] = await Promise.all([
        findMountProcess(session.cachePath),
        findInstance(session),
      ])
      if (!mount || !instance) {
        const what = mount ? 'postgres' : 'mount'
        await lost({
          session: session.session,
          what,
          reason: mount ? 'PostgreSQL does not run' : 'the mount process does not run',
        })
        return
      }
      const { postmaster } = instance
      const { quotaBytes = null, reserveBytes } = readMountSpec(cachePaths(session.cachePath).spec)
      const entry: Watched = {
        session,
        mount,
        limits: { quotaBytes, reserveBytes },
        mountEnded: false,
        postmaster,
        reported: undefined,
        reportedAt: 0,
      }
      void mount.ended.then(() => {
        entry.mountEnded = true
      })
      watched.set(session.session, entry)
      await report(entry)
    },
    remove(session) {
      watched.delete(session)
    },
    close() {
      closed = true
      clearTimeout(timer)
      watched.clear()
    },
  }
}

/** Others write to the same disk all the time: of its free space only what an operator would notice is news. */
function isNews(before: Usage, now: Usage & { freeBytes: number }): boolean {
  const moved = Math.abs(now.freeBytes - (before.freeBytes ?? 0))
  return (
    before.fetchedBytes !== now.fetchedBytes ||
    before.cacheBytes !== now.cacheBytes ||
    before.changedBytes !== now.changedBytes ||
    moved > Math.max(NOTICED_BYTES, now.freeBytes * NOTICED_SHARE)
  )
}

const NOTICED_BYTES = 8 * 1024 * 1024
const NOTICED_SHARE = 0.02

/** What the files of one directory take; PostgreSQL may remove some meanwhile. */
async function allocatedBytes(directory: string): Promise<number> {
  const names = await readdir(directory)
  const sizes = await Promise.all(
    names.map((name) =>
      stat(`${directory}/${name}`).then(
        ({ blocks }) => blocks * STAT_BLOCK_BYTES,
        () => 0,
      ),
    ),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** Unit of `st_blocks`; stat(2). */
const STAT_BLOCK_BYTES = 512
