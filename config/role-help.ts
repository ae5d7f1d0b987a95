/** The manual page of a role, `howdah ROLE --help`, within 80 columns. */
import type { ConfigKey } from './describe.ts'

const COLUMNS = 80

export function roleHelp(role: string, summary: string, keys: readonly ConfigKey[]): string {
  const lines = keys.flatMap(({ key, doc, shown, env, flag }) => {
    const ways = [flag && `--${flag}`, env].filter(Boolean).join(', ')
    return [`  ${key}${ways ? `  (${ways})` : ''}`, ...indented(doc, '      '), `      default: ${shown}`]
  })
  return `NAME
  howdah ${role}: ${summary}

SYNOPSIS
  howdah ${role} [--config FILE] [--json] [FLAG VALUE]…
  howdah ${role} [--config FILE] --check-configuration

OPTIONS
  --config FILE  configuration file (JSON); also HOWDAH_CONFIG
  --json         print one JSON line on stdout once ready, or {"error": …};
                 logs go to stderr
  -h, --help     this text
  --check-configuration
                 say what is wrong with the configuration, and end

CONFIGURATION
  From the file, then the environment, then flags; the last one wins. In the
  file a dot is a level: log.level is {"log": {"level": …}}. For a sample see
  config/${role}.json.

${lines.join('\n')}

SIGNALS
  SIGTERM, SIGINT  shut down in order; published instances stay published

EXIT STATUS
  0 stopped, 1 failed, 2 wrong usage or configuration
`
}

/** Breaks a text at spaces; a longer word gets its own line. */
function indented(text: string, indent: string): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last === undefined || last.length + 1 + word.length > COLUMNS) lines.push(indent + word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}
