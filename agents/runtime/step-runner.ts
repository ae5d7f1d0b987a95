/**
 * Owns the execution of the steps that an agent has accepted: those of one session run one after another, those of
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
import { backoffMs } from '../../messages/backoff.ts'
import type { EventBody, ReportType } from '../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { StepCommand, StepResult, UndoResult } from '../../messages/steps.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import type { StepName } from '../../messages/values.ts'
import { pause } from '../../messages/wait.ts'
import { settledWithinGrace } from './abort-grace.ts'
import type { Acceptance, Direction, Journal, JournalEntry, StepOutcome } from './journal.ts'
import { createOutcomeReporter, type EmitEvent } from './outcome-reporter.ts'
import { createSlots } from './slots.ts'
import { type StepProgress, throttleProgress } from './step-progress.ts'

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

export interface StepRunner {
  /**
   * Accepts a step command; returns when it is durable. One that is stale, or contradicts the journal, is refused by an
   * event that says how far the journal is. @throws Unavailable when the journal cannot be written
   */
  accept(direction: Direction, command: StepCommand): void
  /** Resumes what an earlier process left in the journal: unfinished steps and unconfirmed outcomes. */
  resume(): void
  /** Aborts running steps and leaves them without an outcome: the next process repeats them. */
  close(): Promise<void>
}

export interface StepRunnerOptions {
  readonly journal: Journal
  readonly handlers: StepHandlers
  readonly emit: EmitEvent
  readonly logger: Logger
  /** Sessions whose steps of publishing run at the same time. */
  readonly concurrency?: number
  /** Exports that run at the same time. */
  readonly exports?: number
}

/** How long to wait before the journal is written again. */
const JOURNAL_BACKOFF = { firstMs: 200, maxMs: 10_000 }

/** How long an aborted step may take to end before the next one of its session begins. */
const ABORT_GRACE_MS = 3_000
/** How long `close` waits for steps and reports that do not end. */
const CLOSE_DEADLINE_MS = 10_000

type About = Pick<EventBody<'session.step-started'>, 'session' | 'step' | 'direction' | 'sequence'>

/** A step that runs, or waits until it may. */
interface Running {
  readonly abort: AbortController
  /** Reports again how far it is. */
  alive: () => void
}

export function createStepRunner(options: StepRunnerOptions): StepRunner {
  const { journal, handlers, emit, logger, concurrency = 16, exports = 8 } = options
  const chains = new Map<string, Promise<void>>()
  const running = new Map<string, Running>()
  const orphans = new Map<string, Promise<void>>()
  const closing = new AbortController()
  const outcomes = createOutcomeReporter({ journal, emit, signal: closing.signal, logger })
  const publishSlots = createSlots(concurrency)
  const exportSlots = createSlots(exports)

  function begin(entry: JournalEntry): void {
    const { session } = entry.command
    running.get(session)?.abort.abort(new Error('superseded by a later command'))
    const chain = (chains.get(session) ?? Promise.resolve()).then(() => execute(entry))
    chains.set(session, chain)
    void chain.finally(() => {
      if (chains.get(session) === chain) chains.delete(session)
    })
  }

  async function execute({ direction, command }: JournalEntry): Promise<void> {
    const { session, step, sequence } = command
    const about = { session, step, direction, sequence }
    const isDue = (): boolean => !closing.signal.aborted && journal.isLatest(session, sequence)
    if (!(await insist(about, isDue))) return
    const abort = new AbortController()
    const log = logger.child(about)
    const entry: Running = { abort, alive: () => notify('session.step-started', about) }
    running.set(session, entry)
    try {
      const release = await slotFor(about, entry)
      // Superseded, or the agent stops.
      if (!release) return
      entry.alive = () => notify('session.step-started', about)
      log.info('step begins')
      entry.alive()
      const performed = perform(handlers, direction, command, {
        signal: abort.signal,
        progress: throttleProgress((progress) => {
          if (running.get(session) === entry) notify('session.step-progress', { ...about, ...progress })
        }),
        logger: log,
        orphan: orphans.get(session),
      })
      const outcome = await settledWithinGrace(performed, abort.signal, ABORT_GRACE_MS).finally(release)
      if (!outcome) keepOrphan(session, performed)
      // The outcome of a superseded step is not needed; a step that is interrupted by `close` is repeated.
      if (!outcome || !(await insist(about, isDue))) return
      if (outcome.ok) log.info('step done')
      else log.warn({ error: outcome.error }, 'step failed')
      if (await insist(about, () => finished(command, outcome))) {
        outcomes.report({ direction, command, outcome })
      }
    } finally {
      running.delete(session)
    }
  }

  function finished({ session, sequence }: StepCommand, outcome: StepOutcome): true {
    journal.finish(session, sequence, outcome)
    return true
  }

  /** Undefined when the step is aborted while it waits. Undoing makes room, and waits for nobody. */
  async function slotFor(about: About, entry: Running): Promise<(() => void) | undefined> {
    if (about.direction === 'undo') return () => undefined
    const slots = about.step === 'export' ? exportSlots : publishSlots
    const others = about.step === 'export' ? 'exports' : 'steps'
    const detail = `waits for one of ${slots.count} other ${others} on this agent to end`
    return slots.acquire(entry.abort.signal, () => {
      entry.alive = () => notify('session.step-progress', { ...about, detail })
      entry.alive()
    })
  }

  /** What `use` returns, as soon as the journal can be used; false once the agent stops. */
  async function insist(about: About, use: () => boolean): Promise<boolean> {
    for (let failures = 1; !closing.signal.aborted; failures++) {
      try {
        return use()
      } catch (error) {
        const { message } = error as Error
        logger.error({ err: error, ...about }, 'the journal cannot be used')
        notify('session.step-progress', {
          ...about,
          detail: `the journal of the agent cannot be used: ${message}`,
        })
        await pause(backoffMs(failures, JOURNAL_BACKOFF), closing.signal)
      }
    }
    return false
  }

  /** Later steps of the session get the orphan, and those before it that still run, until all of them have ended. */
  function keepOrphan(session: string, outcome: Promise<StepOutcome>): void {
    logger.warn({ session }, 'a superseded step still runs despite its abort signal')
    const orphan = Promise.all([outcome, orphans.get(session)]).then(() => {
      if (orphans.get(session) === orphan) orphans.delete(session)
    })
    orphans.set(session, orphan)
  }

  /** Sends an event once; one that is lost is not missed. */
  function notify<T extends ReportType>(type: T, body: EventBody<T>): void {
    emit(type, body).catch((error: unknown) => logger.debug({ err: error }, `${type} was not sent`))
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
      const { session, step, sequence } = command
      const about = { session, step, direction, sequence }
      const acceptance = journalled(direction, command)
      switch (acceptance.verdict) {
        case 'new':
          begin({ direction, command, outcome: undefined })
          return
        case 'known':
          if (acceptance.entry.outcome) outcomes.report(acceptance.entry)
          else running.get(session)?.alive()
          return
        case 'refused': {
          const { highest } = acceptance
          logger.info({ ...about, highest }, 'refused a step that is older than the latest of its session')
          notify('session.step-refused', { ...about, highest })
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
    async close() {
      closing.abort()
      for (const { abort } of running.values()) abort.abort(new Error('the agent stops'))
      const deadline = new AbortController()
      const settled = Promise.allSettled([...chains.values(), outcomes.settled()])
      await Promise.race([settled, pause(CLOSE_DEADLINE_MS, deadline.signal)])
      deadline.abort()
    },
  }
}

/** Runs one step to its outcome. Never rejects. */
async function perform(
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
