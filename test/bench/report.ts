/** Owns the output of a run of the bench: a table for a terminal, and JSON. */
import { type Figure, formatValue, isMet, median, ratio, spread, targetText } from './figure.ts'
import { type Machine, machineLine } from './machine.ts'

export interface Outcome {
  /** ISO 8601. */
  readonly takenAt: string
  readonly quick: boolean
  readonly machine: Machine
  readonly figures: readonly Figure[]
  readonly notes: readonly string[]
  /** Groups that failed, and why. */
  readonly failures: readonly string[]
}

const HEAD = ['figure', 'Howdah', 'instead', '', 'ratio', 'to reach', '']

/** Medians, with the smallest and the largest in brackets; the ratio says how many times as good Howdah is. */
export function table(outcome: Outcome): string {
  const rows = [HEAD, ...outcome.figures.map(row)]
  const widths = HEAD.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)))
  const lines = rows.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const [head = '', ...body] = lines
  return [
    `Howdah bench${outcome.quick ? ', quick: figures of small sizes and short runs' : ''}, ${outcome.takenAt}`,
    machineLine(outcome.machine),
    '',
    head,
    '─'.repeat(Math.max(...lines.map((line) => line.length))),
    ...body,
    '',
    ...outcome.notes.map((note) => `· ${note}`),
    ...outcome.failures.map((failure) => `! ${failure}`),
    '',
  ].join('\n')
}

function row(figure: Figure): string[] {
  const { name, unit, howdah, instead } = figure
  const met = isMet(figure)
  return [
    name,
    cell(howdah, unit),
    instead === undefined ? '' : cell(instead.values, unit),
    instead?.what ?? '',
    ratioText(figure),
    targetText(figure),
    met === undefined ? '' : met ? 'met' : 'not met',
  ]
}

export function ratioText(figure: Figure): string {
  const times = ratio(figure)
  return times === undefined ? '' : `${times.toFixed(2)} ×`
}

function cell(values: readonly number[], unit: Figure['unit']): string {
  if (values.length < 2) return formatValue(median(values), unit)
  const { median: middle, min, max } = spread(values)
  const bare = (value: number) => formatValue(value, unit).replace(/[^\d.,–].*$/, '')
  return `${formatValue(middle, unit)} (${bare(min)}–${bare(max)})`
}

export function toJson({ figures, ...outcome }: Outcome): string {
  const worked = figures.map((figure) => ({
    ...figure,
    ...spread(figure.howdah),
    ...(figure.instead !== undefined && {
      instead: { ...figure.instead, ...spread(figure.instead.values) },
      ratio: ratio(figure),
    }),
    ...(figure.target !== undefined && { met: isMet(figure) }),
  }))
  return `${JSON.stringify({ ...outcome, figures: worked }, undefined, 2)}\n`
}
