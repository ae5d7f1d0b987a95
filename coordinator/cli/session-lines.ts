/** The lines that show a session: its steps, how to connect, what failed. All free text is made printable. */

import type { ErrorBody } from '../../messages/errors.ts'
import { formatBytes } from '../../messages/format-bytes.ts'
import type { Finding } from '../../messages/primitives.ts'
import type { SessionState, SessionView, StepName, StepReport } from '../../messages/values.ts'
import { formatDuration, formatMoment, formatRate, formatShare } from './format.ts'
import { latestAttempts } from './session-progress.ts'
import { printable, type Style, type Terminal, truncate, wrap } from './terminal.ts'

const STATE_STYLE = {
  validating: 'cyan',
  mounting: 'cyan',
  recovering: 'cyan',
  published: 'green',
  exporting: 'green',
  disrupted: 'yellow',
  unpublishing: 'cyan',
  closed: 'dim',
  failed: 'red',
} as const satisfies Record<SessionState, Style>

/** The state of a session in its colour; one of a newer coordinator, which may be any text, without. */
export function styledState({ style }: Terminal, state: SessionState, text = printable(state)): string {
  return Object.hasOwn(STATE_STYLE, state) ? style(STATE_STYLE[state], text) : text
}

/** Bytes per second of a running step; undefined if not known yet. */
export type RateOf = (report: StepReport) => number | undefined

/** A row of the progress: a step that has started, or one that is expected. */
type Row = { label: string; report: StepReport | undefined }

/**
 * One line per step, each fitting the terminal: the expected steps and all others that have started. `frame` animates
 * the mark of running steps.
 */
export function stepLines(
  terminal: Terminal,
  view: SessionView,
  options: { now: Date; frame: number; rateOf: RateOf; steps: readonly StepName[] },
): string[] {
  const reports = latestAttempts(view.steps)
  const isRun = ({ direction }: StepReport) => direction === 'run'
  const runs: Row[] = options.steps.map((step) => ({
    label: step,
    report: reports.find((report) => report.step === step && isRun(report)),
  }))
  const others: Row[] = reports
    .filter((report) => isRun(report) && !options.steps.includes(report.step))
    .map((report) => ({ label: report.step, report }))
  const undos: Row[] = reports
    .filter(({ direction }) => direction === 'undo')
    .map((report) => ({ label: `undo ${report.step}`, report }))
  const isComing = (row: Row) => row.report !== undefined || !isEnding(view.state)
  const shown = [...runs.filter(isComing), ...others]
  // A republish undoes steps before it runs them again.
  const rows = firstSequence(undos) < firstSequence(shown) ? [...undos, ...shown] : [...shown, ...undos]
  const labelWidth = Math.max(9, ...rows.map(({ label }) => label.length))
  return rows.map(({ label, report }) => {
    const room = terminal.columns - labelWidth - 17
    if (report === undefined) return `  ${terminal.style('dim', `${terminal.marks.waiting} ${label}`)}`
    const elapsed = formatDuration(elapsedMs(report, options.now)).padStart(9)
    const detail = truncate(stepDetail(report, options.rateOf), room, terminal.marks.ellipsis)
    return `  ${mark(terminal, report, options.frame)} ${label.padEnd(labelWidth)} ${elapsed}  ${detail}`.trimEnd()
  })
}

function firstSequence(rows: readonly Row[]): number {
  return Math.min(...rows.map(({ report }) => report?.sequence ?? Number.POSITIVE_INFINITY))
}

/** The progress of a step as text: bytes, rate and detail, or its error. */
export function stepDetail(report: StepReport, rateOf: RateOf): string {
  if (report.status === 'failed' && report.error !== undefined) return printable(report.error.message)
  const parts: string[] = []
  const { bytesDone, bytesTotal, detail } = report
  if (bytesDone !== undefined) {
    parts.push(bytesTotal === undefined ? formatBytes(bytesDone) : formatShare(bytesDone, bytesTotal))
  }
  const rate = report.status === 'running' ? rateOf(report) : undefined
  if (rate !== undefined) parts.push(formatRate(rate))
  if (report.status === 'sent') parts.push('waits for its agent')
  if (detail !== undefined) parts.push(printable(detail))
  return parts.join('  ')
}

/** Milliseconds that a step took or has taken so far; never negative, even if clocks differ. */
export function elapsedMs(report: StepReport, now: Date): number {
  const end = report.finishedAt === undefined ? now.getTime() : Date.parse(report.finishedAt)
  return Math.max(0, end - Date.parse(report.startedAt))
}

/** An error with its code, its findings one per line, and what was undone. */
export function errorLines(terminal: Terminal, error: ErrorBody, undone: readonly string[] = []): string[] {
  const columns = terminal.live ? Math.min(terminal.columns, 100) : Number.POSITIVE_INFINITY
  const lines = [
    ...hanging(terminal.style('red', 'error'), 5, printable(error.message), columns),
    `${' '.repeat(7)}${terminal.style('dim', `code ${error.code}${error.field === undefined ? '' : `, field ${error.field}`}`)}`,
  ]
  for (const finding of error.details ?? []) {
    lines.push(
      ...hanging(
        `       ${terminal.marks.failed}`,
        8,
        `${printable(finding.message)} (${finding.code})`,
        columns,
      ),
    )
  }
  for (const [index, text] of undone.entries()) {
    lines.push(...hanging(index === 0 ? 'undone' : '      ', 6, printable(text), columns))
  }
  return lines
}

/** One finding of a check, with its mark and code. */
export function findingLines(terminal: Terminal, { level, code, message }: Finding): string[] {
  const columns = terminal.live ? Math.min(terminal.columns, 100) : Number.POSITIVE_INFINITY
  const [style, mark] =
    level === 'error'
      ? (['red', terminal.marks.failed] as const)
      : (['yellow', terminal.marks.warning] as const)
  return hanging(
    `  ${terminal.style(style, `${mark} ${level}`.padEnd(9))}`,
    11,
    `${printable(message)} (${code})`,
    columns,
  )
}

/** The psql line that connects to a published instance; undefined while there is none. */
export function psqlLine(view: SessionView): string | undefined {
  if (view.connection === undefined) return undefined
  const { host, port, user, role, database = 'postgres' } = view.connection
  const options =
    role === undefined ? '' : `PGOPTIONS=${shellWord(`-c role=${role.replace(/[\\\s]/g, '\\$&')}`)} `
  return `${options}psql -h ${shellWord(host)} -p ${port} -U ${shellWord(user)} -d ${shellWord(databaseArgument(database))}`
}

/** libpq takes a name with an equals sign, or one like a URI, for a whole connection string. */
function databaseArgument(name: string): string {
  if (!/=|^postgres(?:ql)?:\/\//.test(name)) return name
  return `dbname='${name.replace(/[\\']/g, '\\$&')}'`
}

/** `12.4 MB of 1.50 GB (0.8 %)`, or undefined while unknown. */
export function fetchedText(view: SessionView): string | undefined {
  if (view.usage === undefined) return undefined
  const { fetchedBytes, totalBytes } = view.usage
  const share = totalBytes === 0 ? '' : ` (${((100 * fetchedBytes) / totalBytes).toFixed(1)} %)`
  return `${formatShare(fetchedBytes, totalBytes)}${share}`
}

/** `1.20 of 10.0 GB`, or the size of the changes if there is no quota; undefined while unknown. */
export function changesText({ usage }: Pick<SessionView, 'usage'>): string | undefined {
  if (usage?.changedBytes === undefined) return undefined
  const { changedBytes, quotaBytes } = usage
  return typeof quotaBytes === 'number' ? formatShare(changedBytes, quotaBytes) : formatBytes(changedBytes)
}

/** The size of the changes and the free space; undefined while unknown. */
export function roomText(view: SessionView): string | undefined {
  const changes = changesText(view)
  const { freeBytes, quotaBytes } = view.usage ?? {}
  if (changes === undefined || freeBytes === undefined) return changes
  return `${changes}${typeof quotaBytes === 'number' ? '' : ', no quota'}; ${formatBytes(freeBytes)} free on the target`
}

/** The last of production's transactions that the instance contains; undefined if unknown. */
export function reachedText({
  reached,
  recoverTo,
}: Pick<SessionView, 'reached' | 'recoverTo'>): string | undefined {
  if (reached === undefined) return undefined
  const { lsn, lastCommit } = reached
  const at = `LSN ${printable(lsn)}`
  if (lastCommit === undefined) return `no transaction after the backup; ${at}`
  // Where the archive ended before that time, it was recovered to its end.
  const asked = recoverTo.type === 'time' ? Date.parse(recoverTo.value ?? '') : Number.NaN
  const before = (reached.secondsBefore ?? (asked - Date.parse(lastCommit)) / 1000) * 1000
  const distance = before > 0 ? `, ${formatDuration(before)} before the time asked for` : ''
  return `transactions up to ${formatMoment(new Date(lastCommit))}${distance}; ${at}`
}

/** The position of a paused recovery; undefined if recovery is not paused. */
export function pausedText({ paused }: Pick<SessionView, 'paused'>): string | undefined {
  if (paused === undefined) return undefined
  const commit =
    paused.lastCommit === undefined ? '' : `, last commit ${formatMoment(new Date(paused.lastCommit))}`
  return `at ${printable(paused.lsn)}${commit}; read-only`
}

/** Path and size of the write cache, or undefined. */
export function writeCacheText(view: SessionView): string | undefined {
  if (view.writeCache === undefined) return undefined
  return `${printable(view.writeCache.path)} (${formatBytes(view.writeCache.bytes)})`
}

/** A field of `fieldLines`; `whole`: never wrapped, so that it can be copied. Omitted if the value is undefined. */
export type Field = readonly [label: string, value: string | undefined, whole?: 'whole']

/** The databases that are known to have changed, of many some; empty: none is. */
export function changedDatabases({ databases, more = 0 }: NonNullable<SessionView['changes']>): string {
  return `${databases.map(printable).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** Label and value in two columns, wrapped below the value. */
export function fieldLines(terminal: Terminal, fields: readonly Field[]): string[] {
  const shown = fields.filter(([, value]) => value !== undefined)
  if (shown.length === 0) return []
  const labelWidth = Math.max(...shown.map(([label]) => label.length))
  return shown.flatMap(([label, value = '', whole]) => {
    const columns = whole === 'whole' ? Number.POSITIVE_INFINITY : terminal.columns
    return hanging(`  ${terminal.style('dim', label.padEnd(labelWidth))}`, labelWidth + 2, value, columns)
  })
}

/** What was undone, one per line. */
export function undoneFields({ undone = [] }: Pick<SessionView, 'undone'>): Field[] {
  return undone.map((text, index) => [index === 0 ? 'undone' : '', printable(text)] as const)
}

function hanging(head: string, headWidth: number, text: string, columns: number): string[] {
  const [first = '', ...rest] = wrap(text, Math.max(20, columns - headWidth - 2))
  return [`${head}  ${first}`, ...rest.map((line) => `${' '.repeat(headWidth + 2)}${line}`)]
}

function mark(terminal: Terminal, report: StepReport, frame: number): string {
  const { marks } = terminal
  switch (report.status) {
    case 'sent':
      return terminal.style('dim', marks.waiting)
    case 'running':
      return terminal.style('cyan', marks.running[frame % marks.running.length] ?? marks.waiting)
    case 'done':
      return terminal.style('green', marks.done)
    case 'failed':
      return terminal.style('red', marks.failed)
    default:
      report.status satisfies never
      return marks.waiting
  }
}

function isEnding(state: SessionState): boolean {
  return state === 'unpublishing' || state === 'closed' || state === 'failed'
}

function shellWord(text: string): string {
  const word = printable(text)
  return /^[A-Za-z0-9_./:@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
