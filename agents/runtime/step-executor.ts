/**
 * Owns the execution of one step: it waits for its slot, calls the handler, and has the outcome journalled and then
 * reported. In which order the steps of a session run is the step runner's.
 */
import type { Logger } from 'pino'
import { settledWithinGrace } from './abort-grace.ts'
import type { Journal, JournalEntry, StepOutcome } from './journal.ts'
import { retryJournal } from './journal-retry.ts'
import { createOrphans } from './orphans.ts'
import type { OutcomeReporter } from './outcome-reporter.ts'
import { identityOf, type Notify, type StepIdentity } from './step-events.ts'
import { callHandler, type StepHandlers } from './step-handler.ts'
import { throttleProgress } from './step-progress.ts'
import type { StepSlots } from './step-slots.ts'

export interface StepExecutor {
  /**
   * Resolves when the step has ended, or has become an orphan. A step that is superseded or interrupted is left without
   * an outcome. The steps of one session are executed one after another.
   */
  execute(entry: JournalEntry): Promise<void>
  /** Aborts the step of the session that runs or waits for its slot, if any. */
  abort(session: string, reason: Error): void
  abortAll(reason: Error): void
  /** Says again how far the step of the session is, if one runs or waits for its slot. */
  reportStatus(session: string): void
}

/** Called when a step has ended; `aborted`: a later command or the end of the agent ended it, or it still runs. */
export type ObserveStep = (
  step: StepIdentity,
  outcome: 'done' | 'failed' | 'aborted',
  milliseconds: number,
) => void

export interface StepExecutorOptions {
  readonly journal: Pick<Journal, 'isLatest' | 'finish'>
  readonly handlers: StepHandlers
  readonly slots: StepSlots
  readonly outcomes: Pick<OutcomeReporter, 'report'>
  readonly notify: Notify
  /** Aborts when the agent stops: no further step begins, and none gets an outcome. */
  readonly signal: AbortSignal
  /** Default: nobody counts. */
  readonly observe?: ObserveStep | undefined
  readonly logger: Logger
}

/** How long an aborted step may take to end before the next one of its session begins. */
const ABORT_GRACE_MS = 3_000

/** A step that runs, or waits until it may. */
interface Running {
  readonly abort: AbortController
  reportStatus: () => void
}

export function createStepExecutor(options: StepExecutorOptions): StepExecutor {
  const { journal, handlers, slots, outcomes, notify, signal, observe, logger } = options
  const running = new Map<string, Running>()
  const orphans = createOrphans()

  async function execute(entry: JournalEntry): Promise<void> {
    const { direction, command } = entry
    const identity = identityOf(direction, command)
    const { session, sequence } = identity
    const isDue = (): boolean => !signal.aborted && journal.isLatest(session, sequence)
    if (!(await insist(identity, isDue))) return
    const reportStarted = (): void => notify('session.step-started', identity)
    const current: Running = { abort: new AbortController(), reportStatus: reportStarted }
    running.set(session, current)
    try {
      const release = await slots.acquire(identity, current.abort.signal, (detail) => {
        current.reportStatus = () => notify('session.step-progress', { ...identity, detail })
        current.reportStatus()
      })
      // Superseded, or the agent stops.
      if (!release) return
      current.reportStatus = reportStarted
      const outcome = await perform(entry, current).finally(release)
      // The outcome of a superseded step is not needed; a step that the agent's stop interrupts is repeated.
      if (!outcome || !(await insist(identity, isDue))) return
      await conclude(entry, outcome)
    } finally {
      running.delete(session)
    }
  }

  /** Undefined when the step was aborted and has become an orphan. */
  async function perform(
    { direction, command }: JournalEntry,
    current: Running,
  ): Promise<StepOutcome | undefined> {
    const identity = identityOf(direction, command)
    const { session } = identity
    const log = logger.child(identity)
    log.info('step begins')
    current.reportStatus()
    const startedAt = performance.now()
    const performed = callHandler(handlers, direction, command, {
      signal: current.abort.signal,
      progress: throttleProgress((progress) => {
        if (running.get(session) === current) notify('session.step-progress', { ...identity, ...progress })
      }),
      logger: log,
      orphan: orphans.of(session),
    })
    const outcome = await settledWithinGrace(performed, current.abort.signal, ABORT_GRACE_MS)
    const ended = current.abort.signal.aborted || !outcome ? 'aborted' : outcome.ok ? 'done' : 'failed'
    observe?.(identity, ended, performance.now() - startedAt)
    if (!outcome) {
      logger.warn({ session }, 'a superseded step still runs despite its abort signal')
      orphans.add(session, performed)
    }
    return outcome
  }

  /** Journals the outcome, and reports it once it is durable. */
  async function conclude({ direction, command }: JournalEntry, outcome: StepOutcome): Promise<void> {
    const identity = identityOf(direction, command)
    const log = logger.child(identity)
    if (outcome.ok) log.info('step done')
    else log.warn({ error: outcome.error }, 'step failed')
    const finished = (): true => {
      journal.finish(identity.session, identity.sequence, outcome)
      return true
    }
    if (await insist(identity, finished)) outcomes.report({ direction, command, outcome })
  }

  /** What `use` returns, as soon as the journal can be used; false once the agent stops. */
  function insist(identity: StepIdentity, use: () => boolean): Promise<boolean> {
    return retryJournal(use, signal, (error) => {
      logger.error({ err: error, ...identity }, 'the journal cannot be used')
      notify('session.step-progress', {
        ...identity,
        detail: `the journal of the agent cannot be used: ${error.message}`,
      })
    })
  }

  return {
    execute,
    abort(session, reason) {
      running.get(session)?.abort.abort(reason)
    },
    abortAll(reason) {
      for (const { abort } of running.values()) abort.abort(reason)
    },
    reportStatus(session) {
      running.get(session)?.reportStatus()
    },
  }
}
