/**
 * Announces changes of sessions to clients: state changes and warnings, as events of the coordinator and in the log.
 * Call it after the change is saved. Nothing waits for an announcement; one that cannot be sent is logged.
 */
import type { Logger } from 'pino'
import type { Bus } from '../../messages/bus.ts'
import type { SpaceWarning, Usage } from '../../messages/values.ts'
import type { Session } from '../session.ts'
import type { BackgroundWork } from './background-work.ts'

export interface Announcer {
  /** `previous`: undefined for a new session. */
  state(session: Session, previous: Session['state'] | undefined): void
  /** The warnings of its steps that `earlier` did not have. */
  stepWarnings(earlier: Session, session: Session): void
  /** `usage`: the report that raised them, if one did. */
  spaceWarnings(id: string, raised: readonly SpaceWarning[], usage?: Usage): void
}

export interface AnnouncerOptions {
  readonly bus: Bus
  readonly logger: Logger
  readonly background: BackgroundWork
}

export function createAnnouncer({ bus, logger, background }: AnnouncerOptions): Announcer {
  return {
    state(session, previous) {
      const { id, state } = session
      const error = session.failure ?? session.error
      logger.info({ session: id, state, previous, error: error?.message }, 'session state')
      const event = {
        session: id,
        state,
        ...(previous && { previous }),
        ...(error && { error, reason: error.message }),
      }
      background.track('announcing a state', id, bus.emit('session.state', event))
    },

    stepWarnings(earlier, { id, warnings, updatedAt }) {
      for (const message of warnings.filter((warning) => !earlier.warnings.includes(warning))) {
        const event = { session: id, about: 'publish', level: 'note', message, at: updatedAt } as const
        background.track('announcing a warning', id, bus.emit('session.warning', event))
      }
    },

    spaceWarnings(id, raised, usage) {
      for (const warning of raised) {
        const { about, level, message } = warning
        logger[level === 'cleared' ? 'info' : 'warn']({ session: id, about, level }, message)
        const event = { session: id, ...warning, ...(usage && { usage }) }
        background.track('announcing a warning', id, bus.emit('session.warning', event))
      }
    },
  }
}
