/**
 * Sends the current step of a session to its agent. Every command carries the step's own message id, so an agent does a
 * step that is sent again only once. Call it after the session is saved.
 */
import type { Bus } from '../../messages/bus.ts'
import { type ErrorBody, type ErrorCode, HowdahError } from '../../messages/errors.ts'
import type { Session } from '../session.ts'
import { stepAgent, stepInput } from '../step-command.ts'
import type { BackgroundWork } from './background-work.ts'

export interface StepDispatcher {
  /** Does nothing for a session without a current step. Nothing needs to wait for it, and it never rejects: the sweep sends again what was not sent. */
  send(session: Session): Promise<void>
  /** Sends nothing from now on. */
  close(): void
}

export interface StepDispatcherOptions {
  readonly bus: Bus
  readonly background: BackgroundWork
  /** The command of the current step can never be sent, as the error says. */
  readonly onUnsendable: (session: Session, error: ErrorBody) => Promise<unknown>
}

/** Errors that sending the same command again meets again. */
const LASTING: ReadonlySet<ErrorCode> = new Set(['message_too_large', 'invalid_message'])

export function createStepDispatcher({
  bus,
  background,
  onUnsendable,
}: StepDispatcherOptions): StepDispatcher {
  let closed = false

  async function sendStep(session: Session, current: NonNullable<Session['current']>): Promise<void> {
    const { step, direction, sequence } = current
    try {
      await bus.sendToAgent(
        stepAgent(session, step),
        direction === 'run' ? 'step.run' : 'step.undo',
        { session: session.id, step, sequence, input: stepInput(session) },
        { messageId: `${session.id}.${sequence}` },
      )
    } catch (error) {
      if (!(error instanceof HowdahError && LASTING.has(error.code))) throw error
      await onUnsendable(session, error.toBody())
    }
  }

  return {
    async send(session) {
      const { current } = session
      if (!current || closed) return
      const sending = sendStep(session, current)
      background.track(`sending ${current.direction} of ${current.step}`, session.id, sending)
      await sending.catch(() => undefined)
    },
    close() {
      closed = true
    },
  }
}
