/** The ends of logs in a readable form, shown when something failed. */
import { readFile } from 'node:fs/promises'

const LEVELS: Readonly<Record<number, string>> = { 40: 'warn', 50: 'ERROR', 60: 'FATAL' }

/** The last lines of a log; of pino's JSON lines the level and the message. Empty if there is no such file. */
export async function logTail(path: string, lines = 12): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '')
  return text.split('\n').filter(Boolean).slice(-lines).map(readable)
}

function readable(line: string): string {
  if (!line.startsWith('{')) return line
  try {
    const { name, role, level, msg, err } = JSON.parse(line) as Record<string, unknown>
    const who = [role ?? name].filter((part) => typeof part === 'string')
    const why =
      typeof err === 'object' && err !== null && 'message' in err && err.message !== msg
        ? [`(${err.message})`]
        : []
    return [...who, LEVELS[Number(level)] ?? 'info', msg, ...why].join(' ')
  } catch {
    return line
  }
}
