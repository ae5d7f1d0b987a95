/** The timeline of a session: what happened, when, and how long each step took. */
import type { HistoryEntry, SessionView } from '../../messages/values.ts'
import type { Context } from './context.ts'
import { formatDuration, formatTime, utcText } from './format.ts'
import { renderTable } from './table.ts'
import { printable, width, wrap } from './terminal.ts'

/** Minimum width of the texts; on a narrower terminal they exceed its width. */
const MIN_TEXT = 24

/** A heading and one entry per line, with wrapped texts; empty if the session has no history. */
export function historyLines({ stdout, now }: Pick<Context, 'stdout' | 'now'>, view: SessionView): string[] {
  const entries = withoutSupersededStarts(view.history ?? [])
  if (entries.length === 0) return []
  const begun = Date.parse(view.createdAt)
  const hasUtcOffset = entries.some(({ at }) => new Date(at).getTimezoneOffset() !== 0)
  const terminal = { ...stdout, columns: Math.max(0, stdout.columns - MIN_TEXT - 4) }
  const table = renderTable(
    terminal,
    [
      { title: 'AT', value: ({ at }) => formatTime(new Date(at)), expendable: 3 },
      { title: 'UTC', value: ({ at }) => (hasUtcOffset ? utcText(new Date(at)) : ''), expendable: 4 },
      { title: 'SINCE', value: ({ at }) => `+${formatDuration(Date.parse(at) - begun)}`, align: 'right' },
      { title: 'WHAT', value: ({ type }) => type, expendable: 5 },
      { title: 'TOOK', value: (entry) => tookText(entry, now(), stdout.marks.ellipsis), align: 'right' },
    ],
    entries,
  )
  const [header = '', ...rows] = table
  const left = Math.max(...table.map(width))
  const room = Math.max(MIN_TEXT, stdout.columns - left - 4)
  return [
    `  ${header}`,
    ...rows.flatMap((row, index) => {
      const entry = entries[index]
      const [first = '', ...rest] = wrap(printable(entry?.text ?? ''), room)
      const isBad = entry?.status === 'failed' || entry?.type === 'disruption'
      const style = (text: string) => (isBad ? stdout.style('red', text) : text)
      const head = `  ${row}${' '.repeat(left - width(row))}  ${style(first)}`
      return [head, ...rest.map((line) => `${' '.repeat(left + 4)}${style(line)}`)]
    }),
  ]
}

/** Omits the start of every step whose end is in the history too. */
function withoutSupersededStarts(history: readonly HistoryEntry[]): HistoryEntry[] {
  const isEnd = ({ status }: HistoryEntry) => status === 'done' || status === 'failed'
  const ended = new Set(history.filter(isEnd).map(({ sequence }) => sequence))
  return history.filter((entry) => entry.type !== 'step' || isEnd(entry) || !ended.has(entry.sequence))
}

/** The duration of a step; while it runs, the time so far, followed by dots. */
function tookText({ type, milliseconds, at }: HistoryEntry, now: Date, dots: string): string {
  if (milliseconds !== undefined) return formatDuration(milliseconds)
  return type === 'step' ? `${formatDuration(now.getTime() - Date.parse(at))}${dots}` : ''
}
