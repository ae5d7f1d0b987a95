/** Quotes names: of databases as file names, of relations in SQL and in patterns of pg_dump. Pure. */

/** The file name of a database: its name, with bytes that are not safe as %XX. At most 189 bytes. */
export function fileNameOf(database: string): string {
  const encoded = [...Buffer.from(database)]
    .map((byte) => {
      const character = String.fromCharCode(byte)
      return /[A-Za-z0-9_-]/.test(character) || (character === '.' && !database.startsWith('.'))
        ? character
        : `%${byte.toString(16).padStart(2, '0').toUpperCase()}`
    })
    .join('')
  return encoded
}

/** An SQL identifier. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** An SQL string, whatever `standard_conforming_strings` is. */
export function literal(text: string): string {
  return text.includes('\\')
    ? ` E'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`
    : `'${text.replaceAll("'", "''")}'`
}

/** A value of a libpq connection string. */
export function connectionValue(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** A libpq connection string. */
export function connectionString(values: Readonly<Record<string, string | undefined>>): string {
  return Object.entries(values)
    .filter((pair): pair is [string, string] => pair[1] !== undefined)
    .map(([name, value]) => `${name}=${connectionValue(value)}`)
    .join(' ')
}

export interface PatternRegexes {
  /** Undefined: tables that are visible by the search path. */
  readonly schema: string | undefined
  readonly name: string
}

/**
 * A pattern of pg_dump's `--table` as regular expressions of PostgreSQL. Source: psql documentation, "Patterns": letters
 * outside double quotes fold to lower case, `*` and `?` are wildcards, a dot divides, `$` is itself; within quotes
 * everything is itself. A database's name in front is dropped: it can only be the one connected to.
 */
export function patternRegexes(pattern: string): PatternRegexes {
  const parts = ['']
  let inQuotes = false
  const add = (text: string): void => {
    parts[parts.length - 1] += text
  }
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern.charAt(at)
    if (character === '"') {
      if (inQuotes && pattern.charAt(at + 1) === '"') {
        add('"')
        at++
      } else inQuotes = !inQuotes
    } else if (inQuotes) add(/[|*+?()[\]{}.^$\\]/.test(character) ? `\\${character}` : character)
    else if (character === '.') parts.push('')
    else if (character === '*') add('.*')
    else if (character === '?') add('.')
    else if (character === '$') add('\\$')
    else add(character.toLowerCase())
  }
  const [name = '', schema] = parts.toReversed()
  const whole = (regex: string): string => `^(${regex})$`
  return { schema: schema === undefined ? undefined : whole(schema), name: whole(name) }
}

/** The pattern that matches exactly one relation. */
export function exactPattern({ schema, name }: { readonly schema: string; readonly name: string }): string {
  return `${quoted(schema)}.${quoted(name)}`
}

/** As `exactPattern`, for pg_dump: bytes of a name that are not UTF-8 match anything. */
export function dumpPattern(relation: { readonly schema: string; readonly name: string }): string {
  return exactPattern(relation).replaceAll('\uFFFD', '"*"')
}
