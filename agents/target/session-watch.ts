/**
 * Watches published sessions: reports what they read and keep, and when their mount or their PostgreSQL is gone. It
 * mends nothing itself; the coordinator sends the steps again.
 */
import { readdir, stat } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { EventBody } from '../../messages/definitions.ts'
import type { Usage } from '../../messages/values.ts'
import { isAlive, type ProcessIdentity } from '../runtime/process-identity.ts'
import { findMountProcess, type MountProcess } from './mount-process/mount-process.ts'
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
    const [status, walBytes] = await Promise.all([
      entry.mount.status(),
      allocatedBytes(`${entry.session.cachePath}/pg_wal`),
    ])
    const { fetchedBytes, totalBytes } = status
    const cacheBytes = status.cacheBytes + walBytes
    const { reported } = entry
    if (reported?.fetchedBytes === fetchedBytes && reported.cacheBytes === cacheBytes) return
    entry.reported = { fetchedBytes, totalBytes, cacheBytes }
    await usage(entry.session.session, entry.reported)
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
      const entry: Watched = {
        session,
        mount,
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
