/** Tables that fit the terminal: columns shrink first, then the least important ones are omitted. */
import { type Terminal, truncate, width } from './terminal.ts'

export interface Column<Row> {
  readonly title: string
  /** The cell's text, without escape sequences. */
  readonly value: (row: Row) => string
  readonly align?: 'left' | 'right'
  /** Width to which the column may shrink; default: it does not. */
  readonly minimum?: number
  /** Columns with the highest number are omitted first on a narrow terminal; 0, the default, never is. */
  readonly expendable?: number
  readonly style?: (text: string, row: Row) => string
}

const GAP = '  '

/** The lines of a table; a column whose cells are all empty is not shown. */
export function renderTable<Row>(
  terminal: Terminal,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): string[] {
  const shown = columns.filter((column) => rows.some((row) => column.value(row) !== ''))
  const { fitting, widths } = layOut(shown, rows, terminal.columns)
  const header = fitting.map((column, index) => pad(column.title, widths[index] ?? 0, column.align))
  const lines = [terminal.style('dim', header.join(GAP).trimEnd())]
  for (const row of rows) {
    const cells = fitting.map((column, index) => {
      const columnWidth = widths[index] ?? 0
      const text = truncate(column.value(row), columnWidth, terminal.marks.ellipsis)
      const styled = column.style === undefined ? text : column.style(text, row)
      return pad(styled, columnWidth, column.align)
    })
    lines.push(cells.join(GAP).trimEnd())
  }
  return lines
}

function layOut<Row>(columns: readonly Column<Row>[], rows: readonly Row[], room: number) {
  let fitting = [...columns]
  for (;;) {
    const widths = fitting.map((column) =>
      Math.max(width(column.title), ...rows.map((row) => width(column.value(row)))),
    )
    let excess = widths.reduce((sum, value) => sum + value, 0) + GAP.length * (fitting.length - 1) - room
    while (excess > 0) {
      const widest = widestShrinkable(fitting, widths)
      if (widest === undefined) break
      widths[widest] = (widths[widest] ?? 0) - 1
      excess -= 1
    }
    const expendable = Math.max(0, ...fitting.map((column) => column.expendable ?? 0))
    if (excess <= 0 || expendable === 0) return { fitting, widths }
    fitting = fitting.filter((column) => (column.expendable ?? 0) < expendable)
  }
}

function widestShrinkable<Row>(
  columns: readonly Column<Row>[],
  widths: readonly number[],
): number | undefined {
  let widest: number | undefined
  for (const [index, column] of columns.entries()) {
    const current = widths[index] ?? 0
    if (column.minimum === undefined || current <= Math.max(column.minimum, width(column.title))) continue
    if (widest === undefined || current > (widths[widest] ?? 0)) widest = index
  }
  return widest
}

function pad(text: string, columns: number, align: 'left' | 'right' = 'left'): string {
  const spaces = ' '.repeat(Math.max(0, columns - width(text)))
  return align === 'right' ? spaces + text : text + spaces
}
