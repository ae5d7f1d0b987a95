/**
 * Owns the order of the steps that an agent has accepted: those of one session run one after another, those of
 * different sessions side by side, publishing and exports each up to a limit; an undo never waits for another session. A
 * later step of a session supersedes an earlier one, which is aborted and waited for.
 * One that does not react to its abort signal in time becomes an orphan: the later step begins, and is handed the orphan
 * to wait for, because what the later step does may be what lets the orphan end.
 *
 * Every step is in the journal before its command is acknowledged, and every outcome before it is reported. A crash at
 * any moment leads to a step that is repeated or an outcome that is reported again, never to a lost one. While the journal
 * cannot be written (a full disk) the agent tries again, and says so.
 */
import type { Logger } from 'pino'
import type { StepCommand } from '../../messages/steps.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { pause } from '../../messages/wait.ts'
import type { Acceptance, Direction, Journal, JournalEntry } from './journal.ts'
import { createOutcomeReporter, type EmitEvent } from './outcome-reporter.ts'
import { createNotify, identityOf } from './step-events.ts'
import { createStepExecutor, type ObserveStep } from './step-executor.ts'
import type { StepHandlers } from './step-handler.ts'
import { createStepSlots } from './step-slots.ts'

export type { StepContext, StepHandler, StepHandlers } from './step-handler.ts'

export interface StepRunner {
  /**
   * Accepts a step command; returns when it is durable. One that is stale, or contradicts the journal, is refused by an
   * event that says how far the journal is. @throws Unavailable when the journal cannot be written
   */
  accept(direction: Direction, command: StepCommand): void
  /** Resumes what an earlier process left in the journal: unfinished steps and unconfirmed outcomes. */
  resume(): void
  /** Outcomes that the broker has not confirmed yet. */
  readonly unreportedOutcomes: number
  /** Aborts running steps and leaves them without an outcome: the next process repeats them. */
  close(): Promise<void>
}

export interface StepRunnerOptions {
  readonly journal: Journal
  readonly handlers: StepHandlers
  readonly emit: EmitEvent
  /** As of the executor. */
  readonly observe?: ObserveStep | undefined
  readonly logger: Logger
  /** Sessions whose steps of publishing run at the same time. */
  readonly concurrency?: number
  /** Exports that run at the same time. */
  readonly exports?: number
}

/** How long `close` waits for steps and reports that do not end. */
const CLOSE_DEADLINE_MS = 10_000

export function createStepRunner(options: StepRunnerOptions): StepRunner {
  const { journal, handlers, emit, observe, logger, concurrency = 16, exports = 8 } = options
  const chains = new Map<string, Promise<void>>()
  const closing = new AbortController()
  const { signal } = closing
  const notify = createNotify(emit, logger)
  const outcomes = createOutcomeReporter({ journal, emit, signal, logger })
  const slots = createStepSlots(concurrency, exports)
  const executor = createStepExecutor({ journal, handlers, slots, outcomes, notify, signal, observe, logger })

  /** Aborts the step of the session that runs, and runs this one after it. */
  function begin(entry: JournalEntry): void {
    const { session } = entry.command
    executor.abort(session, new Error('superseded by a later command'))
    const chain = (chains.get(session) ?? Promise.resolve()).then(() => executor.execute(entry))
    chains.set(session, chain)
    void chain.finally(() => {
      if (chains.get(session) === chain) chains.delete(session)
    })
  }

  function journalled(direction: Direction, command: StepCommand): Acceptance {
    try {
      return journal.accept(direction, command)
    } catch (error) {
      throw new Unavailable(`the journal of the agent cannot be written: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }

  return {
    accept(direction, command) {
      const identity = identityOf(direction, command)
      const acceptance = journalled(direction, command)
      switch (acceptance.verdict) {
        case 'new':
          begin({ direction, command, outcome: undefined })
          return
        case 'known':
          if (acceptance.entry.outcome) outcomes.report(acceptance.entry)
          else executor.reportStatus(command.session)
          return
        case 'refused': {
          const { highest } = acceptance
          logger.info({ ...identity, highest }, 'refused a step that is older than the latest of its session')
          notify('session.step-refused', { ...identity, highest })
          return
        }
        default:
          acceptance satisfies never
      }
    },
    resume() {
      for (const entry of journal.unconfirmed()) outcomes.report(entry)
      for (const entry of journal.unfinished()) begin(entry)
    },
    get unreportedOutcomes() {
      return outcomes.count
    },
    async close() {
      closing.abort()
      executor.abortAll(new Error('the agent stops'))
      const deadline = new AbortController()
      const settled = Promise.allSettled([...chains.values(), outcomes.settled()])
      await Promise.race([settled, pause(CLOSE_DEADLINE_MS, deadline.signal)])
      deadline.abort()
    },
  }
}
