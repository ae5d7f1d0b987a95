/**
 * Sends the current step of a session to its agent. Every command carries the step's own message id, so an agent does a
 * step that is sent again only once. Call it after the session is saved.
 */
import type { Logger } from 'pino'
import type { Bus } from '../../messages/bus.ts'
import type { ErrorBody } from '../../messages/errors.ts'
import { isUnsendable } from '../../messages/unsendable.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import { agentKey } from '../due.ts'
import type { Session } from '../session.ts'
import { type AgentCommand, currentCommand, obstacleOf } from '../step-command.ts'
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
  readonly registry: Pick<AgentRegistry, 'obstacle'>
  readonly logger: Logger
  /** The agent of the current step cannot be given its command (`obstacleOf`). */
  readonly onObstacle: (session: Session) => Promise<unknown>
  /** The command of the current step can never be sent, as the error says. */
  readonly onUnsendable: (session: Session, error: ErrorBody) => Promise<unknown>
}

export function createStepDispatcher({
  bus,
  background,
  registry,
  logger,
  onObstacle,
  onUnsendable,
}: StepDispatcherOptions): StepDispatcher {
  let closed = false

  async function sendStep(session: Session, { agent, type, body }: AgentCommand): Promise<void> {
    // A command to an agent that is only away waits in its queue.
    if (obstacleOf(session, registry)?.code === 'agent_incompatible') {
      await onObstacle(session)
      return
    }
    try {
      const messageId = `${session.id}.${body.sequence}`
      await bus.sendToAgent(agent, type, body, { messageId })
      const { step, sequence } = body
      const direction = type === 'step.run' ? 'run' : 'undo'
      logger.info(
        { session: session.id, step, direction, sequence, messageId, agent: agentKey(agent) },
        'sent a step',
      )
    } catch (error) {
      if (!isUnsendable(error)) throw error
      await onUnsendable(session, error.toBody())
    }
  }

  return {
    async send(session) {
      const command = currentCommand(session)
      if (!command || closed) return
      const sending = sendStep(session, command)
      background.track(`sending ${command.type} of ${command.body.step}`, session.id, sending)
      await sending.catch(() => undefined)
    },
    close() {
      closed = true
    },
  }
}
