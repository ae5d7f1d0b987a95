/** The log of a process: JSON lines without secrets. */
import { openSync, writeSync } from 'node:fs'
import { type DestinationStream, type Logger, pino } from 'pino'

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
    file === undefined ? pino.destination({ dest: STDERR, sync: true }) : logFile(file),
  )
}

const STDERR = 2

/** Lines for which there is no space are left out: a full disk must not end what it is on. @throws when it cannot be opened */
function logFile(path: string): DestinationStream {
  const fd = openSync(path, 'a')
  return {
    write(line) {
      try {
        writeSync(fd, line)
      } catch {
        // There is nowhere to report it.
      }
    },
  }
}

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
