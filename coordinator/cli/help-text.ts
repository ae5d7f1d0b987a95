/** The help of the whole command and of each verb, laid out like a manual page. */
import { type Terminal, wrap } from './terminal.ts'
import { type Entry, sectionsOf, synopsis, type VerbDescription } from './verb-description.ts'

const MAX_COLUMNS = 100
const INDENT = '    '

/** One verb's manual page. */
export function verbHelp(terminal: Terminal, verb: VerbDescription): string[] {
  const heading = (text: string) => terminal.style('bold', text)
  const lines = [
    heading('NAME'),
    ...indented(terminal, `howdah ${verb.name} - ${verb.summary}`),
    '',
    heading('SYNOPSIS'),
    ...indented(terminal, synopsis(verb), '    '),
    '',
    heading('DESCRIPTION'),
    ...verb.description.flatMap((paragraph, index) => [
      ...(index === 0 ? [] : ['']),
      ...indented(terminal, paragraph),
    ]),
  ]
  for (const [title, entries] of sectionsOf(verb)) {
    lines.push('', heading(title), ...entryLines(terminal, entries))
  }
  return lines
}

/** The overview: one line per verb. */
export function overview(
  terminal: Terminal,
  groups: readonly (readonly [string, readonly Pick<VerbDescription, 'name' | 'summary'>[]])[],
): string[] {
  const heading = (text: string) => terminal.style('bold', text)
  const lines = [
    'Howdah publishes PostgreSQL instances straight from a backup repository: usable in',
    'a second or two, without a restore, and the backup is never written to.',
    '',
    `${heading('USAGE')}`,
    `${INDENT}howdah VERB [options]`,
  ]
  const longest = Math.max(...groups.flatMap(([, verbs]) => verbs.map((verb) => verb.name.length)))
  for (const [title, verbs] of groups) {
    lines.push('', heading(title))
    for (const verb of verbs) {
      const [first = '', ...rest] = wrap(verb.summary, pageColumns(terminal) - longest - 6)
      lines.push(`${INDENT}${terminal.style('cyan', verb.name.padEnd(longest))}  ${first}`)
      for (const line of rest) lines.push(`${INDENT}${' '.repeat(longest)}  ${line}`)
    }
  }
  lines.push(
    '',
    heading('START HERE'),
    `${INDENT}howdah up --repository prod=pgbackrest:/var/lib/pgbackrest`,
    `${INDENT}howdah backups`,
    `${INDENT}howdah publish --repository prod --instance main --target local`,
    '',
    '"howdah help VERB" shows the manual page of a verb. Every verb takes --json.',
    'Exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.',
  )
  return lines
}

function entryLines(terminal: Terminal, entries: readonly Entry[]): string[] {
  const short = entries.every(([term]) => term.length <= 4)
  return entries.flatMap(([term, description]) => {
    if (short) {
      const [first = '', ...rest] = wrap(description, pageColumns(terminal) - 10)
      return [`${INDENT}${term.padEnd(4)}  ${first}`, ...rest.map((line) => `${INDENT}      ${line}`)]
    }
    return [`${INDENT}${terminal.style('cyan', term)}`, ...indented(terminal, description, INDENT + INDENT)]
  })
}

function indented(terminal: Terminal, text: string, indent = INDENT): string[] {
  return wrap(text, pageColumns(terminal) - indent.length).map((line) => indent + line)
}

function pageColumns(terminal: Terminal): number {
  return Math.min(terminal.columns, MAX_COLUMNS) === MAX_COLUMNS && !terminal.live
    ? 80
    : Math.min(terminal.columns, MAX_COLUMNS)
}
