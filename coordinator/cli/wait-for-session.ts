/** Waits for a session with progress on the right output, a deadline, and Ctrl-C that leaves the session alone. */
import type { Bus } from '../../messages/bus.ts'
import type { SessionView } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { Context } from './context.ts'
import { followSession } from './follow-session.ts'
import { createProgress } from './progress.ts'

export interface WaitOptions {
  readonly context: Context
  readonly bus: Bus
  readonly session: string
  readonly settled: (view: SessionView) => boolean
  readonly json: boolean
  readonly undoOnly?: boolean
  /** Seconds; undefined: until it settles. */
  readonly timeout: number | undefined
}

export interface WaitResult {
  readonly outcome: 'settled' | 'interrupted' | 'timeout'
  /** What was last known. */
  readonly view: SessionView | undefined
}

export async function waitForSession(options: WaitOptions): Promise<WaitResult> {
  const { context, bus, session, settled, json, timeout } = options
  const progress = createProgress({
    terminal: json ? context.stderr : context.stdout,
    now: context.now,
    ...(options.undoOnly !== undefined && { undoOnly: options.undoOnly }),
  })
  const deadline = timeout === undefined ? undefined : AbortSignal.timeout(timeout * 1000)
  const signal = AbortSignal.any([context.interrupted, ...(deadline === undefined ? [] : [deadline])])
  let view: SessionView | undefined
  try {
    view = await followSession({
      bus,
      session,
      settled,
      now: context.now,
      signal,
      onView: (next) => {
        view = next
        progress.update(next)
      },
      onReachable: (reachable) =>
        progress.notice(
          reachable
            ? 'the coordinator answers again'
            : 'the coordinator does not answer; still waiting for it',
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

/** What to say when a wait ended before the session settled; exit status 1, or 130 after Ctrl-C. */
export function unsettled(result: WaitResult, session: string, timeout: number | undefined): HowdahError {
  const goesOn = `the session goes on: "howdah watch ${session}" follows it, "howdah unpublish ${session}" ends it`
  return new HowdahError(
    'timeout',
    result.outcome === 'timeout' ? `not done after ${timeout} s; ${goesOn}` : `stopped waiting; ${goesOn}`,
  )
}
