/** Waits for a session and shows its progress, up to a deadline or a signal; neither affects the session. */
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionView, StepName } from '../../messages/values.ts'
import { type Context, printJsonFailure } from './context.ts'
import type { Deadline } from './deadline.ts'
import { followSession } from './follow-session.ts'
import { interruptionOf } from './interruption.ts'
import { createProgress } from './progress.ts'
import { needsRetry } from './session-progress.ts'

export interface WaitOptions {
  readonly context: Context
  readonly bus: Bus
  readonly session: string
  readonly settled: (view: SessionView) => boolean
  readonly json: boolean
  /** The steps to expect, shown before they begin. Default: those of publishing. */
  readonly steps?: readonly StepName[]
  /** The export that is waited for. */
  readonly exportId?: string
  /** Steps up to this number belong to an earlier command and are not shown. Default: none. */
  readonly since?: number
  readonly deadline: Deadline
}

export interface WaitResult {
  readonly outcome: 'settled' | 'interrupted' | 'timeout'
  /** The latest known state. */
  readonly view: SessionView | undefined
}

export async function waitForSession(options: WaitOptions): Promise<WaitResult> {
  const { context, bus, session, settled, json, since = 0, deadline } = options
  const progress = createProgress({
    terminal: json ? context.stderr : context.stdout,
    now: context.now,
    ...(options.steps !== undefined && { steps: options.steps }),
    ...(options.exportId !== undefined && { exportId: options.exportId }),
  })
  let view: SessionView | undefined
  let waited = false
  try {
    view = await followSession({
      bus,
      session,
      settled,
      now: context.now,
      signal: deadline.signal,
      onView: (next) => {
        view = next
        progress.update({ ...next, steps: next.steps.filter(({ sequence }) => sequence > since) })
        const waits = needsRetry(next)
        if (waits && !waited)
          progress.notice(`it is not retried automatically; "howdah retry ${session}" resumes it`)
        waited = waits
      },
      onMissed: () =>
        progress.notice('reconnected to RabbitMQ; events may have been missed, the state is up to date'),
      onUnavailable: (why) =>
        progress.notice(
          why === undefined
            ? 'the coordinator answers again'
            : `the coordinator does not answer; still waiting for it${reasonOf(why)}`,
        ),
    })
    return { outcome: 'settled', view }
  } catch (error) {
    if (context.interrupted.aborted) return { outcome: 'interrupted', view }
    if (deadline.signal.aborted) return { outcome: 'timeout', view }
    throw error
  } finally {
    progress.close()
  }
}

/** The message of a RabbitMQ alarm, which an operator has to clear. */
function reasonOf({ code, message }: HowdahError): string {
  return code === 'broker_blocked' ? `. ${message}` : ''
}

interface Unsettled extends Pick<WaitOptions, 'context' | 'session' | 'json' | 'deadline'> {
  /** What --json prints, beside the error. Default: the session as far as it is known. */
  readonly document?: (view: SessionView | undefined) => object
}

/**
 * Reports that waiting ended before the session settled: how to follow it, and in `ends` how to end it or what
 * continues. @returns the exit status: 1, or after a signal 128 and its number
 */
export function reportUnsettled(
  { context, session, json, deadline, document }: Unsettled,
  { view }: WaitResult,
  verb: string,
  ends = `"howdah unpublish ${session}" ends it`,
): number {
  const interruption = interruptionOf(context.interrupted)
  const why = interruption?.message ?? `not done after ${deadline.seconds} s`
  const error = new HowdahError(
    interruption?.code ?? 'timeout',
    `${why}; the session continues: "howdah watch ${session}" follows it, ${ends}`,
    view?.error === undefined ? {} : { details: [view.error] },
  )
  if (json) {
    const known = document?.(view) ?? view ?? { id: session }
    printJsonFailure(context, error.toBody(), known)
  }
  context.stderr.line(`howdah ${verb}: ${error.message}`)
  return interruption?.exitStatus ?? 1
}
