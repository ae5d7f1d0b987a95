/** The log of a process: JSON lines without secrets. */
import { type Logger, pino } from 'pino'

/** `role` names the process in every line, `agent` the agent. `level`: pino's. `file`: instead of stderr. */
export function createLogger(
  role: string,
  level: string,
  { agent, file }: { readonly agent?: string | undefined; readonly file?: string } = {},
): Logger {
  return pino(
    {
      level,
      base: { role, pid: process.pid, ...(agent !== undefined && { agent }) },
      redact: ['*.password', '*.passphrase', '*.ticket'],
    },
    pino.destination({ dest: file ?? STDERR, sync: true }),
  )
}

const STDERR = 2

/** The URLs of a broker without user and password, for logs and messages. */
export function withoutCredentials(urls: readonly string[]): string {
  return urls
    .map((url) => {
      const parsed = new URL(url)
      parsed.username = ''
      parsed.password = ''
      return parsed.href
    })
    .join(',')
}
