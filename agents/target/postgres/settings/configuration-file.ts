/** The syntax of postgresql.conf as Howdah writes it. Pure. */
import type { Settings } from './backup-configuration.ts'

/** One line for each setting; empty for none. */
export function settingLines(settings: Settings): string {
  return [...settings].map(([name, value]) => `${name} = ${quoted(value)}\n`).join('')
}

/** PostgreSQL documentation, "Parameter Names and Values"; the escapes are those of guc-file.l. */
function quoted(value: string): string {
  const escaped = value.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\n', '\\n')
  return `'${escaped}'`
}
