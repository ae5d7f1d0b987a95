/** What passes between the coordinator and the thread of its SQLite store. */
import { HowdahError } from '../../messages/errors.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import type { SqliteDatabase } from './sqlite-database.ts'

export interface ThreadData {
  readonly file: string
  readonly maxHistory: number
}

export interface Request {
  readonly number: number
  readonly method: Exclude<keyof SqliteDatabase, 'together'>
  readonly args: readonly unknown[]
}

/** Number 0: the store is open, with its id as value, or cannot be opened. */
export interface Answered {
  readonly number: number
  readonly value?: unknown
  readonly failure?: Failure
}

/** An error as it passes to another thread. `sqlite`: SQLite's extended result code. */
export interface Failure {
  readonly message: string
  readonly sqlite: number | undefined
  readonly code: 'configuration' | undefined
}

export function failureOf(error: unknown): Failure {
  const {
    message = String(error),
    errcode,
    code,
  } = error as { message?: string; errcode?: unknown; code?: unknown }
  return {
    message,
    sqlite: typeof errcode === 'number' ? errcode : undefined,
    code: error instanceof HowdahError && code === 'configuration' ? code : undefined,
  }
}

/** BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN: the file or its disk, not what was asked (sqlite.org/rescode.html). */
const CANNOT_NOW = new Set([5, 6, 7, 8, 10, 13, 14])

export function errorOf({ message, sqlite, code }: Failure): Error {
  if (code !== undefined) return new HowdahError(code, message)
  // The primary result code is in the lowest eight bits.
  if (sqlite !== undefined && CANNOT_NOW.has(sqlite & 0xff)) return new Unavailable(`the store: ${message}`)
  return new Error(`the store: ${message}`)
}
