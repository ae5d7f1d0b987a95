/**
 * Sends the current step of a session to its agent. Every command carries the step's own message id, so an agent does a
 * step that is sent again only once. Call it after the session is saved.
 */
import type { Bus } from '../../messages/bus.ts'
import type { Session } from '../session.ts'
import { stepAgent, stepInput } from '../step-command.ts'
import type { BackgroundWork } from './background-work.ts'

export interface StepDispatcher {
  /** Does nothing for a session without a current step. Nothing waits for the broker: the sweep sends again. */
  send(session: Session): void
  /** Sends nothing from now on. */
  close(): void
}

export function createStepDispatcher(options: {
  readonly bus: Bus
  readonly background: BackgroundWork
}): StepDispatcher {
  const { bus, background } = options
  let closed = false
  return {
    send(session) {
      const { current } = session
      if (!current || closed) return
      const { step, direction, sequence } = current
      const sending = bus.sendToAgent(
        stepAgent(session, step),
        direction === 'run' ? 'step.run' : 'step.undo',
        { session: session.id, step, sequence, input: stepInput(session) },
        { messageId: `${session.id}.${sequence}` },
      )
      background.track(`sending ${direction} of ${step}`, session.id, sending)
    },
    close() {
      closed = true
    },
  }
}
