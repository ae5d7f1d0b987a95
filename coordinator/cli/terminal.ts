/**
 * An output stream of the verbs: its width, whether it can be repainted, colours and marks, and a block of lines that is
 * updated in place. Nothing else in the command line writes escape sequences.
 */
import { stripVTControlCharacters, styleText } from 'node:util'

export interface OutputStream {
  write(text: string): unknown
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
}

export type Style = 'bold' | 'dim' | 'green' | 'red' | 'yellow' | 'cyan'

/** The state marks of steps; ASCII where the locale is not UTF-8. */
export interface Marks {
  readonly waiting: string
  readonly running: readonly string[]
  readonly done: string
  readonly failed: string
  readonly warning: string
  readonly ellipsis: string
}

export interface Terminal {
  /** Whether it is interactive: lines may be repainted and are cut at `columns`. */
  readonly live: boolean
  /** Width in columns; infinite if it is not a terminal. */
  readonly columns: number
  readonly marks: Marks
  style(style: Style, text: string): string
  /** Writes text and a line feed. */
  line(text?: string): void
  /** Writes text unchanged. */
  write(text: string): void
}

const UTF8_MARKS: Marks = {
  waiting: '·',
  running: ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'],
  done: '✔',
  failed: '✘',
  warning: '▲',
  ellipsis: '…',
}

const ASCII_MARKS: Marks = {
  waiting: '.',
  running: ['|', '/', '-', '\\'],
  done: '+',
  failed: 'x',
  warning: '!',
  ellipsis: '~',
}

/** `env` selects colours (`NO_COLOR`, `TERM=dumb`) and marks (`LC_ALL`, `LC_CTYPE`, `LANG`). */
export function createTerminal(stream: OutputStream, env: NodeJS.ProcessEnv): Terminal {
  const live = stream.isTTY === true && env.TERM !== 'dumb'
  const coloured = live && (env.NO_COLOR ?? '') === ''
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  return {
    live,
    get columns() {
      return stream.isTTY === true ? (stream.columns ?? 80) : Number.POSITIVE_INFINITY
    },
    marks: /utf-?8/i.test(locale) ? UTF8_MARKS : ASCII_MARKS,
    style: (style, text) => (coloured ? styleText(style, text, { validateStream: false }) : text),
    line: (text = '') => void stream.write(`${text}\n`),
    write: (text) => void stream.write(text),
  }
}

/** Text from a repository or a message, safe to show: control characters, including line feeds, become spaces. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim()
}

/** The columns that a text occupies, not counting escape sequences. */
export function width(text: string): number {
  return [...stripVTControlCharacters(text)].length
}

/** Cuts a text without escape sequences to a width, with an ellipsis at the end. */
export function truncate(text: string, columns: number, ellipsis: string): string {
  const characters = [...text]
  if (characters.length <= columns) return text
  return columns <= 0 ? '' : characters.slice(0, columns - 1).join('') + ellipsis
}

/** Breaks text at spaces into lines of at most `columns`; a longer word gets its own line. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/).filter((part) => part !== '')) {
    if (line !== '' && width(line) + 1 + width(word) > columns) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  if (line !== '') lines.push(line)
  return lines
}

/** Lines at the end of a terminal that are repainted in place. Every line must fit the width. */
export class LiveBlock {
  readonly #terminal: Terminal
  #painted = 0

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  paint(lines: readonly string[]): void {
    const up = this.#painted === 0 ? '' : `\x1b[${this.#painted}A`
    this.#terminal.write(`${up}\x1b[J${lines.map((line) => `${line}\n`).join('')}`)
    this.#painted = lines.length
  }

  /** Erases the block, so that a line can be written above its next painting. */
  clear(): void {
    if (this.#painted > 0) this.#terminal.write(`\x1b[${this.#painted}A\x1b[J`)
    this.#painted = 0
  }

  /** Leaves the last painting where it is. */
  keep(): void {
    this.#painted = 0
  }
}
