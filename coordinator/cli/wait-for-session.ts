/** Waits for a session and shows its progress, up to a deadline or Ctrl-C; neither affects the session. */
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionView, StepName } from '../../messages/values.ts'
import { type Context, printJson } from './context.ts'
import { followSession } from './follow-session.ts'
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
  /** Seconds; undefined: until it settles. */
  readonly timeout: number | undefined
}

export interface WaitResult {
  readonly outcome: 'settled' | 'interrupted' | 'timeout'
  /** The latest known state. */
  readonly view: SessionView | undefined
}

export async function waitForSession(options: WaitOptions): Promise<WaitResult> {
  const { context, bus, session, settled, json, since = 0, timeout } = options
  const progress = createProgress({
    terminal: json ? context.stderr : context.stdout,
    now: context.now,
    ...(options.steps !== undefined && { steps: options.steps }),
    ...(options.exportId !== undefined && { exportId: options.exportId }),
  })
  const deadline = timeout === undefined ? undefined : AbortSignal.timeout(timeout * 1000)
  const signal = AbortSignal.any([context.interrupted, ...(deadline === undefined ? [] : [deadline])])
  let view: SessionView | undefined
  let waited = false
  try {
    view = await followSession({
      bus,
      session,
      settled,
      now: context.now,
      signal,
      onView: (next) => {
        view = next
        progress.update({ ...next, steps: next.steps.filter(({ sequence }) => sequence > since) })
        const waits = needsRetry(next)
        if (waits && !waited)
          progress.notice(`it is not retried automatically; "howdah retry ${session}" resumes it`)
        waited = waits
      },
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
    if (deadline?.aborted === true) return { outcome: 'timeout', view }
    throw error
  } finally {
    progress.close()
  }
}

/** The message of a RabbitMQ alarm, which an operator has to clear. */
function reasonOf({ code, message }: HowdahError): string {
  return code === 'broker_blocked' ? `. ${message}` : ''
}

/**
 * Reports that waiting ended before the session settled: how to follow it, and in `ends` how to end it or what
 * continues. @returns the exit status: 1, or 130 after Ctrl-C
 */
export function reportUnsettled(
  { context, session, json, timeout }: Pick<WaitOptions, 'context' | 'session' | 'json' | 'timeout'>,
  { outcome, view }: WaitResult,
  verb: string,
  ends = `"howdah unpublish ${session}" ends it`,
): number {
  const why = outcome === 'timeout' ? `not done after ${timeout} s` : 'stopped waiting'
  const error = new HowdahError(
    'timeout',
    `${why}; the session continues: "howdah watch ${session}" follows it, ${ends}`,
  )
  if (json) printJson(context, view ?? { id: session, error: error.toBody() })
  context.stderr.line(`howdah ${verb}: ${error.message}`)
  return outcome === 'interrupted' ? 130 : 1
}
