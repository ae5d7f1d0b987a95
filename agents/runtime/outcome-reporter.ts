/**
 * Owns reporting the outcomes of steps: each is sent until the broker has confirmed it, and is then marked as confirmed
 * in the journal. Runs no steps.
 */
import type { Logger } from 'pino'
import { backoffMs } from '../../messages/backoff.ts'
import type { EventBody, ReportType } from '../../messages/definitions.ts'
import type { ErrorBody, HowdahError } from '../../messages/errors.ts'
import { createOutageLog } from '../../messages/outage-log.ts'
import type { StepCommand } from '../../messages/steps.ts'
import { isUnsendable } from '../../messages/unsendable.ts'
import { pause } from '../../messages/wait.ts'
import type { Direction, Journal, JournalEntry, StepOutcome } from './journal.ts'

/** Resolves when the broker has confirmed the event. @throws HowdahError */
export type EmitEvent = <T extends ReportType>(
  type: T,
  body: EventBody<T>,
  messageId?: string,
) => Promise<void>

export interface OutcomeReporter {
  /**
   * Begins to send the outcome of an entry, and returns; one without an outcome is ignored. Reporting an entry twice is
   * harmless: both events have one message id.
   */
  report(entry: JournalEntry): void
  /** Outcomes that are being sent. */
  readonly count: number
  /** Resolves when everything that is being sent now is confirmed or, once `signal` is aborted, given up. */
  settled(): Promise<void>
}

export interface OutcomeReporterOptions {
  readonly journal: Pick<Journal, 'finish' | 'confirm'>
  readonly emit: EmitEvent
  /** Ends the retries; what is not confirmed stays so in the journal. */
  readonly signal: AbortSignal
  readonly logger: Logger
}

export function createOutcomeReporter(options: OutcomeReporterOptions): OutcomeReporter {
  const { journal, emit, signal, logger } = options
  const sending = new Set<Promise<void>>()

  /** What cannot be written now is sent all the same, and would be found out again after a restart. */
  function keep({ session, sequence }: StepCommand, outcome: StepOutcome): void {
    try {
      journal.finish(session, sequence, outcome)
    } catch (error) {
      logger.warn({ err: error, session, sequence }, 'the journal cannot be written')
    }
  }

  async function send(direction: Direction, command: StepCommand, journalled: StepOutcome): Promise<void> {
    const { session, step, sequence } = command
    const about = { session, step, direction, sequence }
    const messageId = outcomeId(session, sequence)
    const outage = createOutageLog({
      logger,
      failing: 'an outcome could not be reported yet',
      again: 'the outcome was reported',
    })
    let outcome = journalled
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        if (outcome.ok) await emit('session.step-done', { ...about, result: outcome.result }, messageId)
        else await emit('session.step-failed', { ...about, error: outcome.error }, messageId)
        outage.works(about)
        journal.confirm(session, sequence)
        return
      } catch (error) {
        if (isUnsendable(error)) {
          outcome = { ok: false, error: unsendable(error) }
          keep(command, outcome)
        }
        outage.failed(error, about)
        await pause(backoffMs(failures, { firstMs: 200, maxMs: 10_000 }), signal)
      }
    }
  }

  return {
    report({ direction, command, outcome }) {
      if (!outcome) return
      const sent = send(direction, command, outcome)
      sending.add(sent)
      void sent.finally(() => sending.delete(sent))
    },
    get count() {
      return sending.size
    },
    async settled() {
      await Promise.allSettled([...sending])
    },
  }
}

/** The message id of the outcome of a step: the same outcome, told again, is one message. */
export function outcomeId(session: string, sequence: number): string {
  return `${session}.${sequence}.outcome`
}

/** An outcome that breaks the contract can never be sent; the fact that it does can. */
function unsendable({ message }: HowdahError): ErrorBody {
  return { code: 'internal', message: `the outcome of the step cannot be sent: ${message.slice(0, 500)}` }
}
