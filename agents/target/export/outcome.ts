/** What an export reports: progress while it runs, the error of a database, notes. Bounded, so that it fits into one message. Pure. */
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { DatabaseExport, ExportResult } from '../../../messages/exports.ts'
import { serverMessage } from '../postgres/connections/client.ts'

/** Characters. A thousand databases that fail must still fit into one message. */
const MAX_ERROR = 2_000
const MAX_NOTE = 500
const MAX_NOTES = 50

/** The progress of the step, from the states of its databases. */
export function exportProgress(states: readonly DatabaseExport[]): { detail: string; bytesDone: number } {
  const running = states.find(({ status }) => status === 'running')
  const ended = states.filter(({ status }) => status === 'done' || status === 'failed').length
  const tables =
    running?.tables === undefined ? '' : `, ${running.tablesDone ?? 0} of ${running.tables} tables`
  const waiting = running?.waiting === undefined ? '' : `, waits for ${running.waiting}`
  return {
    detail: running
      ? `database ${running.database} (${ended + 1} of ${states.length})${tables}${waiting}`
      : `${ended} of ${states.length} databases`,
    bytesDone: states.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0),
  }
}

/** The error of one database, which names it. */
export function databaseError(database: string, error: unknown): NonNullable<DatabaseExport['error']> {
  const { code, field } = errorBody(error)
  return {
    code: code === 'internal' || code === 'operation_failed' ? 'export_failed' : code,
    message: `database "${database}": ${serverMessage(error)}`.slice(0, MAX_ERROR),
    ...(field !== undefined && { field }),
  }
}

/** The notes of a result, where there are any. */
export function exportNotes(notes: readonly string[]): Pick<ExportResult, 'notes'> {
  if (notes.length === 0) return {}
  const more = notes.length > MAX_NOTES ? [`and ${notes.length - MAX_NOTES} more`] : []
  return { notes: [...notes.slice(0, MAX_NOTES).map((note) => note.slice(0, MAX_NOTE)), ...more] }
}

/** The error of an export that the mount server's absence interrupted: it is retried as a whole, so no dump is partial. */
export function mountServerUnreachable(what: string, cause?: unknown): HowdahError {
  const message = `What the export needs of the backup could not be read, as the mount server is away: ${what}`
  return new HowdahError('repository_unavailable', message.slice(0, MAX_ERROR), { cause })
}
