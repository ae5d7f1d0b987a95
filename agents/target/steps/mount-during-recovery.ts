/** Watches the mount process while PostgreSQL recovers on it: what it fetches, and whether a failure is the mount's. */
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { StepContext } from '../../runtime/step-runner.ts'
import { type MountProcess, SILENCE_MS } from '../mount-process/agent/mount-process.ts'

const REPORT_EVERY_MS = 300

/** The part of a mount process that is watched. */
export type WatchedMount = Pick<MountProcess, 'hangs' | 'status'>

/** Reports at intervals how much the mount has fetched, and calls `onSilence` when it hangs. @returns stops it */
export function followMount(
  mount: WatchedMount,
  progress: StepContext['progress'],
  onSilence: () => void,
): () => void {
  const timer = setInterval(() => {
    if (mount.hangs) onSilence()
    mount
      .status()
      .then(({ fetchedBytes }) => progress({ bytesDone: fetchedBytes }))
      .catch(() => undefined)
  }, REPORT_EVERY_MS)
  return () => clearInterval(timer)
}

export function mountGone(cause?: unknown): HowdahError {
  return new HowdahError('mount_failed', 'the mount process ended while PostgreSQL was starting', { cause })
}

export function mountSilent(): HowdahError {
  const message = `the mount process did not answer for ${SILENCE_MS / 1000} s while PostgreSQL was starting`
  return new HowdahError('mount_failed', message)
}

/**
 * PostgreSQL reports a failed read without its reason, which the mount knows: adds that to the error, where there is one.
 * Reads that failed because the mount server was unreachable are retried, and so is what PostgreSQL failed of.
 * @param failedBefore the mount's `failedReadsEver` before PostgreSQL was started
 */
export async function withReadFailure(
  error: unknown,
  mount: Pick<MountProcess, 'status'>,
  failedBefore: number,
): Promise<unknown> {
  const status = await mount.status().catch(() => undefined)
  if (status === undefined) return error
  const unanswered = status.failedReadsEver > failedBefore
  if (!unanswered && status.lastError === undefined) return error
  const reason = status.lastError ?? 'the mount server did not answer in time.'
  const { message, field, details, ...failure } = errorBody(error)
  const code = unanswered ? 'repository_unavailable' : failure.code
  return new HowdahError(code, `${message} The mount says: ${reason}`, {
    cause: error,
    ...(field !== undefined && { field }),
    ...(details !== undefined && { details }),
  })
}
