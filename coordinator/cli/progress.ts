/**
 * The progress of one session on an output: repainted in place on a terminal, one plain line per change elsewhere.
 */
import type { ExportView } from '../../messages/exports.ts'
import { type SessionView, STEPS, type StepName, type StepReport } from '../../messages/values.ts'
import { databaseLines, databaseText } from './export-lines.ts'
import { formatClock, formatDuration } from './format.ts'
import { elapsedMs, type RateOf, stepDetail, stepLines } from './session-lines.ts'
import { exportOf, hasSettled, latestAttempts } from './session-progress.ts'
import { LiveBlock, printable, type Terminal } from './terminal.ts'

const FRAME_MS = 120
/** Minimum interval of plain lines about one running step or database. */
const PLAIN_PROGRESS_MS = 2000
const RATE_WINDOW_MS = 4000

export interface Progress {
  update(view: SessionView): void
  /** A message above the progress. */
  notice(text: string): void
  /** Ends the updates and leaves the last state on the output. */
  close(): void
}

export interface ProgressOptions {
  readonly terminal: Terminal
  readonly now: () => Date
  /** The steps to expect, shown before they begin. Default: those of publishing. */
  readonly steps?: readonly StepName[]
  /** The export whose databases are shown. Default: the running one. */
  readonly exportId?: string
}

export function createProgress(options: ProgressOptions): Progress {
  return options.terminal.live ? createLiveProgress(options) : createPlainProgress(options)
}

/** The export whose databases are shown: the requested one, else the latest that was running. */
function exportFollower(exportId: string | undefined): (view: SessionView) => ExportView | undefined {
  let followed = exportId
  return (view) => {
    if (exportId === undefined) followed = exportOf(view)?.id ?? followed
    return followed === undefined ? undefined : exportOf(view, followed)
  }
}

function createLiveProgress({ terminal, now, steps = STEPS, exportId }: ProgressOptions): Progress {
  const jobOf = exportFollower(exportId)
  const block = new LiveBlock(terminal)
  const rates = new Rates()
  let view: SessionView | undefined
  let frame = 0
  const paint = () => {
    if (view === undefined) return
    block.paint([
      ...stepLines(terminal, view, { now: now(), frame, rateOf: rates.of, steps }),
      ...databaseLines(terminal, jobOf(view) ?? { databases: [] }, frame),
    ])
  }
  const timer = setInterval(() => {
    frame += 1
    paint()
  }, FRAME_MS)
  return {
    update: (next) => {
      view = next
      for (const report of next.steps) rates.add(report, now().getTime())
      paint()
    },
    notice: (text) => {
      block.clear()
      terminal.line(`  ${terminal.style('yellow', terminal.marks.warning)} ${text}`)
      paint()
    },
    close: () => {
      clearInterval(timer)
      paint()
      block.keep()
    },
  }
}

function createPlainProgress({ terminal, now, exportId }: ProgressOptions): Progress {
  const jobOf = exportFollower(exportId)
  const rates = new Rates()
  const reported = new Map<string, { status: string; detail: string; at: number }>()
  let state: string | undefined
  const line = (subject: string, text: string) =>
    terminal.line(`${formatClock(now())}  ${subject.padEnd(14)}  ${text}`.trimEnd())
  /** Whether a line is due: the status has changed, or it is running and the last line is some time ago. */
  const isDue = (subject: string, status: string, detail: string, isRunning: boolean): boolean => {
    const at = now().getTime()
    const before = reported.get(subject)
    if (
      before?.status === status &&
      !(isRunning && before.detail !== detail && at - before.at >= PLAIN_PROGRESS_MS)
    )
      return false
    reported.set(subject, { status, detail, at })
    return true
  }
  const reportStep = (report: StepReport) => {
    rates.add(report, now().getTime())
    const subject = report.direction === 'undo' ? `undo ${report.step}` : report.step
    const detail = stepDetail(report, rates.of)
    if (!isDue(subject, `${report.sequence} ${report.status}`, detail, report.status === 'running')) return
    const elapsed = isFinished(report) ? formatDuration(elapsedMs(report, now())) : ''
    line(subject, [report.status.padEnd(7), elapsed, detail].filter((part) => part !== '').join('  '))
  }
  return {
    update: (view) => {
      const isNew = view.state !== state
      state = view.state
      const isEnd = hasSettled(view)
      if (isNew && !isEnd) line('session', view.state)
      for (const report of latestAttempts(view.steps)) reportStep(report)
      const job = jobOf(view)
      for (const database of job?.databases ?? []) {
        const detail = databaseText(database)
        const subject = `${job?.id} ${database.database}`
        if (database.status === 'pending') continue
        if (!isDue(subject, database.status, detail, database.status === 'running')) continue
        line(printable(database.database), [database.status.padEnd(7), detail].join('  '))
      }
      if (isNew && isEnd) line('session', view.state)
    },
    notice: (text) => line('note', text),
    close: () => {},
  }
}

function isFinished(report: StepReport): boolean {
  return report.status === 'done' || report.status === 'failed'
}

/** Bytes per second of each step over the last seconds. */
class Rates {
  readonly #samples = new Map<string, { at: number; bytes: number }[]>()

  add(report: StepReport, at: number): void {
    if (report.bytesDone === undefined) return
    const key = keyOf(report)
    const samples = this.#samples.get(key) ?? []
    if (samples.at(-1)?.bytes === report.bytesDone) return
    samples.push({ at, bytes: report.bytesDone })
    while (samples.length > 2 && at - (samples[0]?.at ?? at) > RATE_WINDOW_MS) samples.shift()
    this.#samples.set(key, samples)
  }

  readonly of: RateOf = (report) => {
    const samples = this.#samples.get(keyOf(report))
    const first = samples?.[0]
    const last = samples?.at(-1)
    if (first === undefined || last === undefined || last.at - first.at < 100) return undefined
    return (1000 * (last.bytes - first.bytes)) / (last.at - first.at)
  }
}

function keyOf({ step, direction, sequence }: StepReport): string {
  return `${direction} ${step} ${sequence}`
}
