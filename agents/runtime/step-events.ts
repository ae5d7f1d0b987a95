/** Owns the events of a step that are sent once, without a retry: all but its outcome. */
import type { Logger } from 'pino'
import type { EventBody, ReportType } from '../../messages/definitions.ts'
import type { StepCommand } from '../../messages/steps.ts'
import type { Direction } from './journal.ts'
import type { EmitEvent } from './outcome-reporter.ts'

/** What every event and log line of a step carries. */
export type StepIdentity = Pick<
  EventBody<'session.step-started'>,
  'session' | 'step' | 'direction' | 'sequence'
>

export function identityOf(direction: Direction, { session, step, sequence }: StepCommand): StepIdentity {
  return { session, step, direction, sequence }
}

/** Sends an event once; one that is lost is not missed. */
export type Notify = <T extends ReportType>(type: T, body: EventBody<T>) => void

export function createNotify(emit: EmitEvent, logger: Logger): Notify {
  return (type, body) => {
    emit(type, body).catch((error: unknown) => logger.debug({ err: error }, `${type} was not sent`))
  }
}
