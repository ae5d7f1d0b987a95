/** Owns the retries of a journal that cannot be used, for example because the disk is full. */
import { backoffMs } from '../../messages/backoff.ts'
import { pause } from '../../messages/wait.ts'

/** How long to wait before the journal is used again. */
const JOURNAL_BACKOFF = { firstMs: 200, maxMs: 10_000 }

/** What `use` returns, as soon as it does not throw; false once `signal` aborts. `onFailure` is called for each failure. */
export async function retryJournal(
  use: () => boolean,
  signal: AbortSignal,
  onFailure: (error: Error) => void,
): Promise<boolean> {
  for (let failures = 1; !signal.aborted; failures++) {
    try {
      return use()
    } catch (error) {
      onFailure(error as Error)
      await pause(backoffMs(failures, JOURNAL_BACKOFF), signal)
    }
  }
  return false
}
