/** Follows the log file of a role: pino's JSON lines, and the plain lines of a start that failed. */
import { closeSync, fstatSync, openSync, readSync, watch } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { parseJson } from '../../../messages/json.ts'

export interface LogLine {
  /** pino's level: 40 is a warning, 50 an error, 60 fatal; plain text counts as 50. */
  readonly level: number
  readonly text: string
}

export interface LogFollower {
  /** Passes on what has been written since. Not after `close`. */
  read(): void
  /** Safe to repeat. */
  close(): void
}

const CHUNK_BYTES = 64 * 1024
/** Longer lines are truncated. */
const MAX_LINE_CHARACTERS = 256 * 1024

/** Follows a file from its present end; creates it if missing. */
export function followLog(file: string, onLine: (line: LogLine) => void): LogFollower {
  closeSync(openSync(file, 'a', 0o600))
  const descriptor = openSync(file, 'r')
  const buffer = Buffer.alloc(CHUNK_BYTES)
  const decoder = new StringDecoder('utf8')
  let position = fstatSync(descriptor).size
  let rest = ''
  const read = () => {
    for (;;) {
      const length = readSync(descriptor, buffer, 0, buffer.length, position)
      if (length === 0) return
      position += length
      const lines = (rest + decoder.write(buffer.subarray(0, length))).split('\n')
      rest = (lines.pop() ?? '').slice(0, MAX_LINE_CHARACTERS)
      for (const line of lines) if (line.trim() !== '') onLine(logLine(line))
    }
  }
  const watcher = watch(file, read)
  // Without notifications the log is still in the file.
  watcher.on('error', () => {})
  let isClosed = false
  return {
    read,
    close: () => {
      if (isClosed) return
      isClosed = true
      watcher.close()
      closeSync(descriptor)
    },
  }
}

/** One line of a log as a level and a text. */
export function logLine(line: string): LogLine {
  const parsed = parseJson(line)?.value
  if (typeof parsed !== 'object' || parsed === null) return { level: 50, text: line.trim() }
  const { level, msg, session, step, err, error } = parsed as Record<string, unknown>
  const reason = messageOf(err) ?? messageOf(error)
  const isInMessage = reason !== undefined && typeof msg === 'string' && msg.includes(reason)
  const text = [session, step, msg, isInMessage ? undefined : reason]
    .filter((part) => typeof part === 'string' && part !== '')
    .join(': ')
  return { level: typeof level === 'number' ? level : 30, text: text === '' ? line.trim() : text }
}

function messageOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('message' in error)) return undefined
  return typeof error.message === 'string' ? error.message : undefined
}
