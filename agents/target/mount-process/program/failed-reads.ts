/** Counts the reads of the backup that failed since the mount server was there last. */
import { type ErrorCode, HowdahError } from '../../../../messages/errors.ts'
import type { MountSource } from '../mount-source.ts'

export interface FailedReads {
  readonly count: number
  /** Of all absences. */
  readonly total: number
  readonly add: (error: unknown) => void
}

/** What a read ends with that the mount server did not answer; others are answers. */
const UNANSWERED: ReadonlySet<ErrorCode> = new Set(['repository_unavailable', 'unauthorized', 'timeout'])

/** A connection that is dead without anybody's knowing counts as away: what fails before it is noticed is counted, too. */
export function failedReads(source: Pick<MountSource, 'connectedAt'>, now = Date.now): FailedReads {
  let count = 0
  let total = 0
  let lastAt = 0

  function forgetEarlier(): void {
    if (source.connectedAt !== undefined && source.connectedAt >= lastAt) count = 0
  }

  return {
    get count() {
      forgetEarlier()
      return count
    },
    get total() {
      return total
    },
    add(error) {
      if (!(error instanceof HowdahError) || !UNANSWERED.has(error.code)) return
      forgetEarlier()
      count += 1
      total += 1
      lastAt = now()
    },
  }
}
