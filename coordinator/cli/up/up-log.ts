/** The log of `howdah up` itself: JSON lines in a file beside those of the roles. */
import path from 'node:path'
import { type Logger, pino } from 'pino'

export function openUpLog(stateDirectory: string, level: string): Logger {
  const file = path.join(stateDirectory, 'log', 'up.log')
  return pino({ level, base: { role: 'up' } }, pino.destination({ dest: file, sync: true, mode: 0o600 }))
}
