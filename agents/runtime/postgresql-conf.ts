/**
 * The syntax of postgresql.conf. Pure.
 *
 * PostgreSQL documentation, "Parameter Interaction via the Configuration File"; guc-file.l.
 */

export interface Directive {
  readonly name: string
  readonly value: string
}

/**
 * The directives of one configuration file, in order; lines with a syntax error are skipped.
 * @param onUnreadable called with the number of each such line, from 1
 */
export function parseConfiguration(text: string, onUnreadable?: (line: number) => void): Directive[] {
  const directives: Directive[] = []
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(?:#.*)?$/.test(line)) continue
    const match =
      /^\s*([A-Za-z_][\w$.]*)(?:\s*=\s*|\s+)(?:'((?:[^'\\]|''|\\.)*)'|([^\s#']+))\s*(?:#.*)?$/.exec(line)
    const name = match?.[1]
    if (match === null || name === undefined) {
      onUnreadable?.(index + 1)
      continue
    }
    const value = match[2] === undefined ? (match[3] ?? '') : unquoted(match[2])
    directives.push({ name: name.toLowerCase(), value })
  }
  return directives
}

/** Unescapes the text between the quotes of a value, as DeescapeQuotedString of guc-file.l does. */
function unquoted(text: string): string {
  return text.replace(/''|\\([0-7]{1,3}|.)/g, (pair, escaped: string | undefined) => {
    if (escaped === undefined) return "'"
    if (/^[0-7]/.test(escaped)) return String.fromCharCode(Number.parseInt(escaped, 8))
    return ESCAPES[escaped] ?? pair.slice(1)
  })
}

const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }

/** The items of a list setting such as shared_preload_libraries. */
export function parseList(value: string): string[] {
  return value
    .split(',')
    .map((item) => item.trim().replace(/^"(.*)"$/, '$1'))
    .filter((item) => item !== '')
}
