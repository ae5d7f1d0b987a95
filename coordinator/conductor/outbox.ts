/**
 * Publishes what changes of sessions announce, at least once: announcements are saved together with the change, published
 * in their order, one of a session at a time, and deleted once RabbitMQ has them. What an earlier process, or another
 * coordinator on the same store, left behind is found by looking into the store. The same announcement has the same
 * message id whenever it is published.
 */
import type { Logger } from 'pino'
import { backoffMs } from '../../messages/backoff.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { createOutageLog } from '../../messages/outage-log.ts'
import { pause } from '../../messages/wait.ts'
import { type Announcement, announcementId, compareAnnouncements } from '../announcements.ts'
import type { Store } from '../store/store.ts'
import type { BackgroundWork } from './background-work.ts'

export interface Outbox {
  /** Publishes what an earlier process left in the store, and from then on what nobody published for some seconds. */
  start(): void
  /** Looks into the store no more, until the next start: another coordinator does. */
  pause(): void
  /** Publishes what was saved. Nothing waits for it. */
  publish(announcements: readonly Announcement[]): void
  /** Announcements that are not published yet, as far as they are known here. */
  readonly waiting: number
  /** Since when the one that waits longest is known, in ms since the epoch; undefined: none waits. */
  readonly waitingSince: number | undefined
  /** Looks for none and repeats none from now on: the next process does. */
  close(): void
}

export interface OutboxOptions {
  readonly store: Pick<Store, 'announcements' | 'announced'>
  readonly bus: Pick<Bus, 'emit'>
  readonly logger: Logger
  readonly background: BackgroundWork
  /** Milliseconds between two looks into the store, and the age of what is looked for. Default 10 s. */
  readonly lookMs?: number
}

/** Of one that could not be published. */
const BACKOFF = { firstMs: 200, maxMs: 5_000 }

export function createOutbox({ store, bus, logger, background, lookMs = 10_000 }: OutboxOptions): Outbox {
  /** Of each session, in their order. A session without is not in it. */
  const queues = new Map<string, Announcement[]>()
  /** Those that are queued or published, and not deleted yet, by their ids: since when, in ms since the epoch. */
  const known = new Map<string, number>()
  const done: Announcement[] = []
  let deleting = false
  let timer: NodeJS.Timeout | undefined
  let looking = false
  const closing = new AbortController()

  function enqueue(announcement: Announcement): void {
    const id = announcementId(announcement)
    if (known.has(id)) return
    known.set(id, Date.now())
    const { session } = announcement.body
    const queue = queues.get(session)
    if (queue) {
      queue.push(announcement)
      queue.sort(compareAnnouncements)
    } else {
      const started = [announcement]
      queues.set(session, started)
      background.track('announcing', session, publishAll(session, started))
    }
  }

  async function publishAll(session: string, queue: Announcement[]): Promise<void> {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      if (!(await publishOne(next))) break
      done.push(next)
      background.track('forgetting what was announced', session, deleteDone())
    }
    queues.delete(session)
  }

  /** False: it is left to the next process. */
  async function publishOne(announcement: Announcement): Promise<boolean> {
    const { type, body } = announcement
    const about = { session: body.session, type }
    const outage = createOutageLog({
      logger,
      failing: 'an announcement is not published yet',
      again: 'the announcement was published',
    })
    for (let failures = 1; ; failures++) {
      try {
        await bus.emit(type, body, { messageId: announcementId(announcement) })
        outage.works(about)
        return true
      } catch (error) {
        if (isLasting(error)) {
          logger.error({ err: error, ...about }, 'an announcement can never be published')
          return true
        }
        if (closing.signal.aborted) return false
        outage.failed(error, about)
        await pause(backoffMs(failures, BACKOFF), closing.signal)
      }
    }
  }

  /** One deletion at a time, of all that were published in the meantime. */
  async function deleteDone(): Promise<void> {
    if (deleting) return
    deleting = true
    try {
      while (done.length > 0) {
        const published = done.splice(0, done.length)
        try {
          await store.announced(published)
        } catch (error) {
          done.unshift(...published)
          throw error
        }
        for (const one of published) known.delete(announcementId(one))
      }
    } finally {
      deleting = false
    }
  }

  async function look(savedBefore: Date): Promise<void> {
    const found = await store.announcements(savedBefore)
    if (!closing.signal.aborted) for (const announcement of found) enqueue(announcement)
    await deleteDone()
  }

  function schedule(): void {
    clearTimeout(timer)
    timer = setTimeout(() => {
      const looked = look(new Date(Date.now() - lookMs)).finally(() => {
        if (looking) schedule()
      })
      background.track('looking for announcements', '*', looked)
    }, lookMs)
  }

  function pauseLooking(): void {
    looking = false
    clearTimeout(timer)
  }

  return {
    start() {
      looking = true
      background.track('looking for announcements', '*', look(new Date()))
      schedule()
    },
    publish(announcements) {
      for (const announcement of announcements) {
        log(logger, announcement)
        enqueue(announcement)
      }
    },
    get waiting() {
      return known.size
    },
    get waitingSince() {
      const [earliest] = known.values()
      return earliest
    },
    pause: pauseLooking,
    close() {
      closing.abort()
      pauseLooking()
    },
  }
}

/** The contract does not allow it, today or tomorrow. */
function isLasting(error: unknown): boolean {
  return (
    error instanceof HowdahError && (error.code === 'invalid_message' || error.code === 'message_too_large')
  )
}

function log(logger: Logger, { type, body }: Announcement): void {
  if (type === 'session.state') {
    const { session, state, previous, error } = body
    logger.info({ session, state, previous, error: error?.message }, 'session state')
  } else if (body.level !== 'note') {
    const { session, about, level, message } = body
    logger[level === 'cleared' ? 'info' : 'warn']({ session, about, level }, message)
  }
}
