/**
 * The output of the demo: numbered chapters, steps with their durations, and the output of other programs. Fits 80
 * columns; colours and lines that are repainted appear only on a terminal.
 */
import { formatDuration } from '../../coordinator/cli/format.ts'
import { type Terminal, truncate, width, wrap } from '../../coordinator/cli/terminal.ts'

export interface Narration {
  chapter(title: string): void
  /** Runs `work`, shows `text` with a mark and the duration, and returns the result of `work`. */
  step<T>(text: string | ((result: T) => string), work: () => Promise<T>, doing?: string): Promise<T>
  /** A finding, without a duration. */
  finding(text: string): void
  paragraph(text: string): void
  /** An empty line. */
  gap(): void
  /** A command line, as a user would type it. */
  command(line: string): void
  /** Output of another program; lines are cut to the width. */
  output(text: string): void
  /** Label and value per line, the values in one column. */
  facts(rows: readonly (readonly [string, string])[]): void
  /** A bar: the share of a whole. */
  bar(share: number): void
  failure(text: string): void
}

const MAX_COLUMNS = 80
const INDENT = '   '

export function createNarration(terminal: Terminal, now: () => number = () => performance.now()): Narration {
  const columns = () => Math.min(MAX_COLUMNS, terminal.columns)
  const { marks } = terminal
  const unicode = marks.ellipsis === '…'
  let chapters = 0

  const timed = (mark: string, text: string, milliseconds: number) => {
    const time = formatDuration(milliseconds)
    const lines = wrap(text, columns() - INDENT.length - time.length - 5)
    const last = lines.pop() ?? ''
    const lead = (index: number) => (index === 0 ? `${INDENT}${mark} ` : `${INDENT}  `)
    for (const [index, line] of lines.entries()) terminal.line(lead(index) + line)
    const room = columns() - INDENT.length - 4 - width(last) - time.length
    const dots = terminal.style('dim', ` ${'.'.repeat(Math.max(2, room))} `)
    terminal.line(`${lead(lines.length)}${last}${dots}${time}`)
  }

  return {
    chapter(title) {
      chapters += 1
      const heading = `${chapters}  ${title} `
      const rule = (unicode ? '─' : '-').repeat(Math.max(0, columns() - heading.length))
      terminal.line()
      terminal.line(`${terminal.style('bold', heading)}${terminal.style('dim', rule)}`)
    },

    async step(text, work, doing) {
      const begun = now()
      const started = doing ?? (typeof text === 'string' ? text : '')
      let frame = 0
      const paint = () => {
        const mark = marks.running[frame++ % marks.running.length] ?? ''
        const time = now() - begun < 1000 ? '' : `  ${Math.floor((now() - begun) / 1000)} s`
        const line = truncate(`${started} ${marks.ellipsis}${time}`, columns() - 6, marks.ellipsis)
        terminal.write(`\r\x1b[K${INDENT}${terminal.style('cyan', mark)} ${line}`)
      }
      if (terminal.live) paint()
      const ticking = terminal.live ? setInterval(paint, 100) : undefined
      const settle = () => {
        clearInterval(ticking)
        if (terminal.live) terminal.write('\r\x1b[K')
      }
      try {
        const result = await work()
        settle()
        const finished = typeof text === 'string' ? text : text(result)
        timed(terminal.style('green', marks.done), finished, now() - begun)
        return result
      } catch (error) {
        settle()
        timed(terminal.style('red', marks.failed), started, now() - begun)
        throw error
      }
    },

    finding(text) {
      const [first = '', ...rest] = wrap(text, columns() - 5)
      terminal.line(`${INDENT}${terminal.style('green', marks.done)} ${first}`)
      for (const line of rest) terminal.line(`${INDENT}  ${line}`)
    },

    paragraph(text) {
      for (const line of wrap(text, columns() - INDENT.length)) terminal.line(INDENT + line)
    },

    gap() {
      terminal.line()
    },

    command(line) {
      terminal.line()
      terminal.line(`${INDENT}${terminal.style('dim', '$')} ${terminal.style('cyan', line)}`)
    },

    output(text) {
      for (const line of text.trimEnd().split('\n')) {
        terminal.line(`${INDENT}  ${terminal.style('dim', truncate(line, columns() - 5, marks.ellipsis))}`)
      }
    },

    facts(rows) {
      const longest = Math.max(...rows.map(([label]) => width(label)))
      for (const [label, value] of rows) {
        const dots = terminal.style('dim', '.'.repeat(longest + 3 - width(label)))
        terminal.line(`${INDENT}  ${label} ${dots} ${terminal.style('bold', value)}`)
      }
    },

    bar(share) {
      const length = columns() - INDENT.length
      const filled = Math.max(share > 0 ? 1 : 0, Math.round(Math.min(1, share) * length))
      const [full, empty] = unicode ? ['█', '░'] : ['#', '-']
      const rest = terminal.style('dim', empty.repeat(length - filled))
      terminal.line(`${INDENT}${terminal.style('green', full.repeat(filled))}${rest}`)
    },

    failure(text) {
      terminal.line()
      const room = columns() - 5
      const lines = text.split('\n').flatMap((line) => (width(line) <= room ? [line] : wrap(line, room)))
      for (const [index, line] of lines.entries()) {
        const lead = index === 0 ? `${terminal.style('red', marks.failed)} ` : '  '
        terminal.line(INDENT + lead + line)
      }
    },
  }
}
