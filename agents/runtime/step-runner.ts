/**
 * Does the steps that an agent was told to do: those of one session one after another, those of different sessions
 * side by side. A later step of a session supersedes an earlier one, which is aborted and waited for; one that does not
 * heed that is left to the later one to wait for, which may be what it needs to end.
 *
 * Everything is in the journal before it is acknowledged and again before it is reported, so a crash at any moment
 * leads to a step done again or an outcome told again, never to one forgotten.
 */
import type { Logger } from 'pino'
import { backoffMs } from '../../messages/backoff.ts'
import type { EventBody, EventType } from '../../messages/definitions.ts'
import { type ErrorBody, errorBody, HowdahError } from '../../messages/errors.ts'
import type { DatabaseExport } from '../../messages/exports.ts'
import type { StepCommand, StepResult, UndoResult } from '../../messages/steps.ts'
import type { StepName } from '../../messages/values.ts'
import { pause } from '../../messages/wait.ts'
import type { Direction, Journal, JournalEntry, StepOutcome } from './journal.ts'

export interface StepProgress {
  /** What goes on, in words. */
  readonly detail?: string
  readonly bytesDone?: number
  readonly bytesTotal?: number
  /** Of an export. */
  readonly databases?: DatabaseExport[]
}

export interface StepContext {
  /** Aborts when the step is superseded or the agent stops. */
  readonly signal: AbortSignal
  /** May be called as often as one likes. */
  readonly progress: (progress: StepProgress) => void
  readonly logger: Logger
  /**
   * An earlier step of the session was superseded and does not heed its signal, as one that waits for a mount that
   * hangs: resolves when it has ended. Undefined, as nearly always: none is left.
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
  /** Takes a step command; returns when it is durable. */
  accept(direction: Direction, command: StepCommand): void
  /** Takes up what an earlier process left. */
  resume(): void
  /** Aborts what runs, without an outcome: the next process does it again. */
  close(): Promise<void>
}

export interface StepRunnerOptions {
  readonly journal: Journal
  readonly handlers: StepHandlers
  readonly emit: <T extends EventType>(type: T, body: EventBody<T>, messageId?: string) => Promise<void>
  readonly logger: Logger
  /** Sessions whose steps run at the same time. */
  readonly concurrency?: number
}

const PROGRESS_EVERY_MS = 250
/** How long a step may take to heed its signal before the next one of its session begins. */
const HEED_MS = 3_000
/** How long `close` waits for steps that do not heed their signal. */
const CLOSE_DEADLINE_MS = 10_000

export function createStepRunner(options: StepRunnerOptions): StepRunner {
  const { journal, handlers, emit, logger, concurrency = 16 } = options
  const chains = new Map<string, Promise<void>>()
  const running = new Map<string, AbortController>()
  const orphans = new Map<string, Promise<void>>()
  const announcements = new Set<Promise<void>>()
  const closing = new AbortController()
  const waiting: (() => void)[] = []
  let busy = 0

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
    await enter()
    if (closing.signal.aborted || !journal.isLatest(session, sequence)) {
      leave()
      return
    }
    const abort = new AbortController()
    running.set(session, abort)
    const log = logger.child(about)
    try {
      log.info('step begins')
      report('session.step-started', about)
      const context: StepContext = {
        signal: abort.signal,
        progress: throttledProgress(about),
        logger: log,
        orphan: orphans.get(session),
      }
      const outcome = await heeding(session, perform(direction, command, context), abort.signal)
      // Superseded: nobody waits for the outcome. Stopping: the next process does the step.
      if (!outcome || closing.signal.aborted || !journal.isLatest(session, sequence)) return
      if (outcome.ok) log.info('step done')
      else log.warn({ error: outcome.error }, 'step failed')
      journal.finish(session, sequence, outcome)
      announce({ direction, command, outcome })
    } finally {
      running.delete(session)
      leave()
    }
  }

  /** Undefined: the step was told to end and does not, and is waited for no more. */
  async function heeding(
    session: string,
    outcome: Promise<StepOutcome>,
    signal: AbortSignal,
  ): Promise<StepOutcome | undefined> {
    const over = new AbortController()
    const impatient = (async () => {
      await untilAborted(AbortSignal.any([signal, over.signal]))
      await pause(HEED_MS, over.signal)
      return undefined
    })()
    const first = await Promise.race([outcome, impatient])
    over.abort()
    if (first !== undefined) return first
    logger.warn({ session }, 'a step does not heed that it was superseded')
    const left = Promise.all([outcome, orphans.get(session)]).then(() => {
      if (orphans.get(session) === left) orphans.delete(session)
    })
    orphans.set(session, left)
    return undefined
  }

  async function perform(
    direction: Direction,
    command: StepCommand,
    context: StepContext,
  ): Promise<StepOutcome> {
    try {
      const handler = handlers[command.step]
      if (!handler) throw new Error(`this agent has no step ${command.step}`)
      const result = await handler[direction](command, context)
      return { ok: true, result }
    } catch (error) {
      if (!(error instanceof HowdahError)) {
        context.logger.error({ err: error }, 'a step failed in a way that Howdah does not foresee')
      }
      return { ok: false, error: errorBody(error) }
    }
  }

  /** Tells an outcome until the broker has it. */
  function announce({ direction, command, outcome: journalled }: JournalEntry): void {
    if (!journalled) return
    let outcome = journalled
    const { session, step, sequence } = command
    const about = { session, step, direction, sequence }
    const messageId = `${session}.${sequence}.outcome`
    const telling = (async () => {
      for (let failures = 1; !closing.signal.aborted; failures++) {
        try {
          if (outcome.ok) await emit('session.step-done', { ...about, result: outcome.result }, messageId)
          else await emit('session.step-failed', { ...about, error: outcome.error }, messageId)
          journal.announced(session, sequence)
          return
        } catch (error) {
          if (error instanceof HowdahError && !error.retryable) {
            outcome = { ok: false, error: unspeakable(error) }
            journal.finish(session, sequence, outcome)
          }
          logger.warn({ err: error, ...about }, 'an outcome could not be told yet')
          await pause(backoffMs(failures, { firstMs: 200, maxMs: 10_000 }), closing.signal)
        }
      }
    })()
    announcements.add(telling)
    void telling.finally(() => announcements.delete(telling))
  }

  function report<T extends EventType>(type: T, body: EventBody<T>): void {
    emit(type, body).catch((error: unknown) => logger.debug({ err: error }, `${type} was not told`))
  }

  /** Passes the first report at once and then the latest one, so many times a second. */
  function throttledProgress(about: Omit<EventBody<'session.step-started'>, never>) {
    let last = 0
    let next: StepProgress | undefined
    let timer: NodeJS.Timeout | undefined
    const flush = (): void => {
      timer = undefined
      last = Date.now()
      const current = running.has(about.session) ? next : undefined
      if (current) report('session.step-progress', { ...about, ...current })
    }
    return (progress: StepProgress): void => {
      next = { ...next, ...progress }
      if (timer !== undefined) return
      timer = setTimeout(flush, Math.max(0, last + PROGRESS_EVERY_MS - Date.now())).unref()
    }
  }

  async function enter(): Promise<void> {
    if (busy >= concurrency) await new Promise<void>((resolve) => waiting.push(resolve))
    else busy += 1
  }

  function leave(): void {
    const next = waiting.shift()
    if (next) next()
    else busy -= 1
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
          if (entry?.outcome) announce(entry)
          else if (running.has(session))
            report('session.step-started', { session, step, direction, sequence })
          return
        }
        case 'stale':
          logger.info({ session, step, direction, sequence }, 'ignored a step that a later one superseded')
      }
    },
    resume() {
      for (const entry of journal.unannounced()) announce(entry)
      for (const entry of journal.unfinished()) begin(entry)
    },
    async close() {
      closing.abort()
      for (const abort of running.values()) abort.abort(new Error('the agent stops'))
      const deadline = new AbortController()
      const settled = Promise.allSettled([...chains.values(), ...announcements])
      await Promise.race([settled, pause(CLOSE_DEADLINE_MS, deadline.signal)])
      deadline.abort()
    },
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** An outcome that breaks the contract can never be told; that it does can. */
function unspeakable({ message }: HowdahError): ErrorBody {
  return { code: 'internal', message: `the outcome of the step cannot be sent: ${message.slice(0, 500)}` }
}
