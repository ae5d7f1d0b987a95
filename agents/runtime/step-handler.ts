/** Owns what an agent implements for a step, and calls it. What a step does is the handler's. */
import type { Logger } from 'pino'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { StepCommand, StepResult, UndoResult } from '../../messages/steps.ts'
import type { StepName } from '../../messages/values.ts'
import type { Direction, StepOutcome } from './journal.ts'
import type { StepProgress } from './step-progress.ts'

export interface StepContext {
  /** Aborts when the step is superseded or the agent stops. */
  readonly signal: AbortSignal
  /** May be called at any rate: reports are throttled. */
  readonly progress: (progress: StepProgress) => void
  readonly logger: Logger
  /**
   * An earlier step of the session that was superseded and still runs despite its abort signal, for example because it
   * waits for a mount that hangs. Resolves when it has ended; undefined where there is none, as nearly always.
   */
  readonly orphan: Promise<void> | undefined
}

/** Both are safe to repeat, also by another process after a crash in the middle. */
export interface StepHandler<S extends StepName = StepName> {
  run(command: StepCommand, context: StepContext): Promise<StepResult<S>>
  undo(command: StepCommand, context: StepContext): Promise<UndoResult>
}

export type StepHandlers = { readonly [S in StepName]?: StepHandler<S> }

/** Calls the handler of one step and resolves to its outcome. Never rejects. */
export async function callHandler(
  handlers: StepHandlers,
  direction: Direction,
  command: StepCommand,
  context: StepContext,
): Promise<StepOutcome> {
  try {
    const handler = handlers[command.step]
    if (!handler) throw new Error(`this agent has no step ${command.step}`)
    return { ok: true, result: await handler[direction](command, context) }
  } catch (error) {
    if (!(error instanceof HowdahError)) {
      context.logger.error({ err: error }, 'a step failed with an unexpected error')
    }
    return { ok: false, error: errorBody(error) }
  }
}
