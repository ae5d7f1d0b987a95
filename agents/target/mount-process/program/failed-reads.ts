/** Counts the reads of the backup that failed since the mount server was last connected. */
import { type ErrorCode, HowdahError } from '../../../../messages/errors.ts'
import type { MountSource } from '../mount-source.ts'

export interface FailedReads {
  readonly count: number
  /** Since the mount process started. */
  readonly total: number
  readonly add: (error: unknown) => void
}

/** Codes of reads that the mount server did not answer; other errors are answers. */
const UNANSWERED: ReadonlySet<ErrorCode> = new Set(['repository_unavailable', 'unauthorized', 'timeout'])

/** Also counts reads that fail before a dead connection is detected. */
export function failedReads(source: Pick<MountSource, 'connectedAt'>, now = Date.now): FailedReads {
  let count = 0
  let total = 0
  let lastAt = 0

  function resetAfterReconnect(): void {
    if (source.connectedAt !== undefined && source.connectedAt >= lastAt) count = 0
  }

  return {
    get count() {
      resetAfterReconnect()
      return count
    },
    get total() {
      return total
    },
    add(error) {
      if (!(error instanceof HowdahError) || !UNANSWERED.has(error.code)) return
      resetAfterReconnect()
      count += 1
      total += 1
      lastAt = now()
    },
  }
}
