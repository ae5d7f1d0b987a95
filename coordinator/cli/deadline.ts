/**
 * How long a verb may take as a whole: until a signal ends it, or its --timeout, which is counted once, from the start of
 * the verb. Connecting, asking and waiting share it.
 */
import { HowdahError } from '../../messages/errors.ts'

export interface Deadline {
  /** Aborted by an interruption, with that as its reason, or by --timeout, with a HowdahError `timeout`. */
  readonly signal: AbortSignal
  /** Of --timeout; undefined: none was given. */
  readonly seconds: number | undefined
  /**
   * The bounds of one question: what is left of --timeout, or without one the usual time.
   * @param usualMs default: a minute
   */
  asking(usualMs?: number): { readonly signal: AbortSignal; readonly deadlineMs: number }
}

const USUAL_MS = 60_000
/** A longer timer would fire at once: setTimeout takes 31 bits. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** `interrupted`: aborted by signals to the process. */
export function startDeadline(interrupted: AbortSignal, seconds?: number): Deadline {
  const asking = (signal: AbortSignal, deadlineMs: number) => ({ signal, deadlineMs })
  if (seconds === undefined) {
    return { signal: interrupted, seconds, asking: (usualMs = USUAL_MS) => asking(interrupted, usualMs) }
  }
  const end = performance.now() + seconds * 1000
  const over = new AbortController()
  const expire = () => over.abort(new HowdahError('timeout', `not done after ${seconds} s (--timeout)`))
  if (seconds * 1000 <= MAX_TIMER_MS) setTimeout(expire, seconds * 1000).unref()
  const signal = AbortSignal.any([interrupted, over.signal])
  return { signal, seconds, asking: () => asking(signal, Math.max(0, end - performance.now())) }
}
