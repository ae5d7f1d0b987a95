/**
 * Owns the execution of the steps that an agent has accepted: those of one session run one after another, those of
 * different sessions side by side. A later step of a session supersedes an earlier one, which is aborted and waited for.
 * One that does not react to its abort signal in time becomes an orphan: the later step begins, and is handed the orphan
 * to wait for, because what the later step does may be what lets the orphan end.
 *
 * Every step is in the journal before its command is acknowledged, and every outcome before it is reported. A crash at
 * any moment leads to a step that is repeated or an outcome that is reported again, never to a lost one.
 */
import type { Logger } from 'pino'
import type { EventBody, EventType } from '../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { StepCommand, StepResult, UndoResult } from '../../messages/steps.ts'
import type { StepName } from '../../messages/values.ts'
import { pause } from '../../messages/wait.ts'
import { settledWithinGrace } from './abort-grace.ts'
import type { Direction, Journal, JournalEntry, StepOutcome } from './journal.ts'
import { createOutcomeReporter, type EmitEvent } from './outcome-reporter.ts'
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
  /** Accepts a step command; returns when it is durable. */
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
  /** Sessions whose steps run at the same time. */
  readonly concurrency?: number
}

/** How long an aborted step may take to end before the next one of its session begins. */
const ABORT_GRACE_MS = 3_000
/** How long `close` waits for steps and reports that do not end. */
const CLOSE_DEADLINE_MS = 10_000

export function createStepRunner(options: StepRunnerOptions): StepRunner {
  const { journal, handlers, emit, logger, concurrency = 16 } = options
  const chains = new Map<string, Promise<void>>()
  const running = new Map<string, AbortController>()
  const orphans = new Map<string, Promise<void>>()
  const closing = new AbortController()
  const outcomes = createOutcomeReporter({ journal, emit, signal: closing.signal, logger })
  const slots = createSlots(concurrency)

  function begin(entry: JournalEntry): void {
    const { session } = entry.command
    running.get(session)?.abort(new Error('superseded by a later command'))
    const chain = (chains.get(session) ?? Promise.resolve()).then(() => execute(entry))
    chains.set(session, chain)
    void chain.finally(() => {
      if (chains.get(session) === chain) chains.delete(session)
    })
  }

  async function execute({ direction, command }: JournalEntry): Promise<void> {
    const { session, step, sequence } = command
    const about = { session, step, direction, sequence }
    await slots.acquire()
    if (closing.signal.aborted || !journal.isLatest(session, sequence)) {
      slots.release()
      return
    }
    const abort = new AbortController()
    running.set(session, abort)
    const log = logger.child(about)
    try {
      log.info('step begins')
      notify('session.step-started', about)
      const performed = perform(handlers, direction, command, {
        signal: abort.signal,
        progress: throttleProgress((progress) => {
          if (running.has(session)) notify('session.step-progress', { ...about, ...progress })
        }),
        logger: log,
        orphan: orphans.get(session),
      })
      const outcome = await settledWithinGrace(performed, abort.signal, ABORT_GRACE_MS)
      if (!outcome) keepOrphan(session, performed)
      // The outcome of a superseded step is not needed; a step that is interrupted by `close` is repeated.
      if (!outcome || closing.signal.aborted || !journal.isLatest(session, sequence)) return
      if (outcome.ok) log.info('step done')
      else log.warn({ error: outcome.error }, 'step failed')
      journal.finish(session, sequence, outcome)
      outcomes.report({ direction, command, outcome })
    } finally {
      running.delete(session)
      slots.release()
    }
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
  function notify<T extends EventType>(type: T, body: EventBody<T>): void {
    emit(type, body).catch((error: unknown) => logger.debug({ err: error }, `${type} was not sent`))
  }

  return {
    accept(direction, command) {
      const { session, step, sequence } = command
      switch (journal.accept(direction, command)) {
        case 'new':
          begin({ direction, command, outcome: undefined })
          return
        case 'known': {
          const entry = journal.find(session, sequence)
          if (entry?.outcome) outcomes.report(entry)
          else if (running.has(session))
            notify('session.step-started', { session, step, direction, sequence })
          return
        }
        case 'stale':
          logger.info({ session, step, direction, sequence }, 'ignored a step that a later one superseded')
      }
    },
    resume() {
      for (const entry of journal.unconfirmed()) outcomes.report(entry)
      for (const entry of journal.unfinished()) begin(entry)
    },
    async close() {
      closing.abort()
      for (const abort of running.values()) abort.abort(new Error('the agent stops'))
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

/** A semaphore: at most `count` holders, those that wait are served in order. */
function createSlots(count: number): { acquire(): Promise<void>; release(): void } {
  const waiting: (() => void)[] = []
  let held = 0
  return {
    async acquire() {
      if (held >= count) await new Promise<void>((resolve) => waiting.push(resolve))
      else held += 1
    },
    release() {
      const next = waiting.shift()
      if (next) next()
      else held -= 1
    },
  }
}
