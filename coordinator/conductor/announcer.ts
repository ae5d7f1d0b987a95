/**
 * Announces changes of sessions to clients: as events of the coordinator and in the log. Call it after the change is saved.
 * Nothing waits for an announcement; one that cannot be sent is logged.
 */
import type { Logger } from 'pino'
import type { Bus } from '../../messages/bus.ts'
import { type Announcement, announcementsOf } from '../announcements.ts'
import type { Session } from '../session.ts'
import type { BackgroundWork } from './background-work.ts'

export interface Announcer {
  /** `earlier`: undefined for a new session. */
  announce(earlier: Session | undefined, session: Session): void
}

export interface AnnouncerOptions {
  readonly bus: Bus
  readonly logger: Logger
  readonly background: BackgroundWork
}

export function createAnnouncer({ bus, logger, background }: AnnouncerOptions): Announcer {
  function log({ type, body }: Announcement): void {
    if (type === 'session.state') {
      const { session, state, previous, error } = body
      logger.info({ session, state, previous, error: error?.message }, 'session state')
    } else if (body.level !== 'note') {
      const { session, about, level, message } = body
      logger[level === 'cleared' ? 'info' : 'warn']({ session, about, level }, message)
    }
  }

  return {
    announce(earlier, session) {
      for (const announcement of announcementsOf(earlier, session)) {
        log(announcement)
        const { type, body } = announcement
        background.track(`announcing ${type}`, session.id, bus.emit(type, body))
      }
    },
  }
}
