/** Owns the rate at which a step's progress is sent. */
import type { DatabaseExport, ExportTotals } from '../../messages/exports.ts'

export interface StepProgress {
  /** What is being done, for a person. */
  readonly detail?: string
  readonly bytesDone?: number
  readonly bytesTotal?: number
  /** Of an export. */
  readonly databases?: DatabaseExport[]
  readonly totals?: ExportTotals
}

const PROGRESS_EVERY_MS = 1_000

/**
 * Sends the first report at once and then the latest one, once a second at most. Fields that a report leaves out keep
 * the value of an earlier one. `send` is never called from within the function that is returned.
 */
export function throttleProgress(send: (progress: StepProgress) => void): (progress: StepProgress) => void {
  let last = 0
  let next: StepProgress = {}
  let timer: NodeJS.Timeout | undefined
  const flush = (): void => {
    timer = undefined
    last = Date.now()
    send(next)
  }
  return (progress) => {
    next = { ...next, ...progress }
    if (timer !== undefined) return
    timer = setTimeout(flush, Math.max(0, last + PROGRESS_EVERY_MS - Date.now())).unref()
  }
}
