/**
 * Manual pages in the language of man(7), from the same descriptions as `--help`. Source of the language: groff_man(7).
 */
import { type Entry, optionParts, sectionsOf, type VerbDescription } from './verb-description.ts'

/** `howdah-publish.1`, of section 1. */
export function manualFile(name: string): string {
  return `${titleOf(name)}.1`
}

function titleOf(name: string): string {
  return name === '' ? 'howdah' : `howdah-${name.replaceAll(' ', '-')}`
}

/** The page of one verb or role. */
export function manualPage(page: VerbDescription, version: string): string {
  const options = page.options.map((option) => {
    const { name, value } = optionParts(option)
    const form = value === undefined ? bold(name) : `${bold(name)} ${italic(value)}`
    const more = option.repeatable === true ? ' ...' : ''
    return option.required === true ? `${form}${more}` : `[${form}]${more}`
  })
  const given = (page.arguments ?? []).map(({ name, required }) =>
    required ? italic(name) : `[${italic(name)}]`,
  )
  return document(page.name, version, [
    ...section('NAME', `${escaped(titleOf(page.name))} \\- ${escaped(page.summary)}`),
    ...section('SYNOPSIS', [bold(`howdah ${page.name}`), ...given, ...options].join('\n')),
    ...section('DESCRIPTION', page.description.map(escaped).join('\n.PP\n')),
    ...sectionsOf(page).flatMap(([title, entries]) => section(title, entries.map(item).join('\n'))),
    ...section('SEE ALSO', `${bold('howdah')}(1)`),
  ])
}

/** The page `howdah(1)`: what there is. */
export function overviewPage(pages: readonly VerbDescription[], version: string): string {
  const about =
    'Howdah publishes PostgreSQL instances straight from a backup repository: usable in a second or two, without a ' +
    'restore, and the backup is never written to. Each verb has a page of its own, and "howdah help VERB" shows it.'
  const entries = pages.map(({ name, summary }) => `.TP\n${bold(titleOf(name))}(1)\n${escaped(summary)}`)
  return document('', version, [
    ...section(
      'NAME',
      `howdah \\- ${escaped('publish PostgreSQL instances straight from a backup repository')}`,
    ),
    ...section('SYNOPSIS', `${bold('howdah')}\n${italic('VERB')}\n[options]`),
    ...section('DESCRIPTION', escaped(about)),
    ...section('VERBS', entries.join('\n')),
  ])
}

function document(name: string, version: string, lines: readonly string[]): string {
  const title = escaped(titleOf(name).toUpperCase())
  return `${[`.TH ${title} 1 "" "howdah ${escaped(version)}" "Howdah"`, '.ad l', ...lines].join('\n')}\n`
}

function section(title: string, text: string): string[] {
  return [`.SH "${escaped(title)}"`, text]
}

function item([term, description]: Entry): string {
  return `.TP\n${bold(term)}\n${escaped(description)}`
}

function bold(text: string): string {
  return `\\fB${escaped(text)}\\fR`
}

function italic(text: string): string {
  return `\\fI${escaped(text)}\\fR`
}

/** A minus sign that can be copied, no line that begins like a request, and no character beyond ASCII. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll('"', '\\(dq')
    .replace(/^\./gm, '\\&.')
    .replace(/[^\x20-\x7e\n]/gu, (character) => `\\[u${codePoint(character)}]`)
}

function codePoint(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')
}
