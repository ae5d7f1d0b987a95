/** The lines that show an export: its databases while it runs, and its result. */

import type { ErrorBody } from '../../messages/errors.ts'
import type { DatabaseExport, Destination, ExportTotals, ExportView } from '../../messages/exports.ts'
import { formatBytes } from '../../messages/format-bytes.ts'
import { count } from './format.ts'
import { errorLines, type Field, fieldLines } from './session-lines.ts'
import { printable, type Terminal, truncate } from './terminal.ts'

/** No more databases are painted than this; those that are done are omitted first. */
const MAX_PAINTED = 12

/** One line per database, each fitting the terminal. `frame` animates the mark of running ones. */
export function databaseLines(
  terminal: Terminal,
  { databases, totals }: Pick<ExportView, 'databases' | 'totals'>,
  frame: number,
): string[] {
  const order = { running: 0, failed: 1, cancelled: 1, pending: 2, done: 3 } as const
  const shown =
    databases.length <= MAX_PAINTED
      ? databases
      : [...databases].sort((a, b) => order[a.status] - order[b.status]).slice(0, MAX_PAINTED)
  const nameWidth = Math.min(30, Math.max(9, ...shown.map(({ database }) => printable(database).length)))
  const lines = shown.map((one) => {
    const name = truncate(printable(one.database), nameWidth, terminal.marks.ellipsis).padEnd(nameWidth)
    const detail = truncate(databaseText(one), terminal.columns - nameWidth - 8, terminal.marks.ellipsis)
    return `    ${mark(terminal, one, frame)} ${name}  ${detail}`.trimEnd()
  })
  const more = (totals?.databases ?? databases.length) - shown.length
  return more === 0 ? lines : [...lines, `      ${terminal.style('dim', `and ${more} more`)}`]
}

/** The progress or result of a database: tables, rows, bytes, and why it failed. */
export function databaseText(one: DatabaseExport): string {
  if (one.status === 'failed' && one.error !== undefined) return printable(one.error.message)
  const { tables, tablesDone, rows, bytes, waiting } = one
  const parts: string[] = []
  if (one.status === 'cancelled') parts.push('cancelled')
  if (tables !== undefined) {
    const isPart = tablesDone !== undefined && one.status !== 'done'
    parts.push(isPart ? `${tablesDone} of ${count(tables, 'table')}` : count(tables, 'table'))
  }
  if (rows !== undefined) parts.push(count(rows, 'row'))
  if (bytes !== undefined) parts.push(formatBytes(bytes))
  if (waiting !== undefined) parts.push(`waits for ${printable(waiting)}`)
  return parts.join(', ')
}

/** The result of an export, or its progress. */
export function exportFields(job: ExportView): Field[] {
  const databases = job.databases.map((one) => {
    const where = one.path === undefined ? '' : `, in ${printable(one.path)}`
    const text = one.status === 'done' ? databaseText(one) : `${one.status}: ${databaseText(one)}`
    return [printable(one.database), `${text.replace(/: $/, '')}${where}`] as const
  })
  const more = (job.totals?.databases ?? 0) - job.databases.length
  return [
    ...databases,
    ['', more > 0 ? `and ${count(more, 'database')} more, which the manifest lists` : undefined],
    ['to', printable(formatDestination(job.request.destination))],
    ['manifest', job.manifest === undefined ? undefined : printable(job.manifest), 'whole'],
    ...(job.notes ?? []).map((note) => ['note', printable(note)] as const),
  ]
}

const NOTHING: ExportTotals = { databases: 0, done: 0, failed: 0, tables: 0, rows: 0, bytes: 0 }

/** The final output of an export. `took`: the time since it was requested. */
export function exportLines(terminal: Terminal, job: ExportView, took: string): string[] {
  const { databases, done, rows, bytes } = job.totals ?? NOTHING
  const amount = `${count(rows, 'row')}, ${formatBytes(bytes)}`
  const heads: Record<ExportView['status'], string> = {
    done: `${terminal.style('green', 'Exported')} ${amount} in ${took}.`,
    failed:
      done === 0
        ? `${terminal.style('red', 'Not exported')} after ${took}.`
        : `${terminal.style('red', 'Not all exported')} after ${took}: ${done} of ${count(databases, 'database')}, ${amount}.`,
    cancelled: `${terminal.style('yellow', 'Cancelled')} after ${took}; what it wrote is removed.`,
    pending: `Still queued after ${took}.`,
    running: `Still running after ${took}.`,
  }
  return [
    '',
    heads[job.status] ?? `${printable(job.status)} after ${took}.`,
    ...fieldLines(terminal, exportFields(job)),
    ...(job.status === 'failed' && job.error !== undefined ? ['', ...errorLines(terminal, job.error)] : []),
  ]
}

/** A destination as `--to` and `--into` take it. */
export function formatDestination(destination: Destination): string {
  switch (destination.type) {
    case 'directory':
      return destination.path
    case 'sftp':
      return `ssh://${serverOf(destination)}${destination.path}`
    case 'postgres':
      return `postgres://${serverOf(destination)}${destination.database === undefined ? '' : `/${encodeURIComponent(destination.database)}`}`
    default:
      destination satisfies never
      return printable((destination as Destination).type)
  }
}

function serverOf({ host, port, user }: Exclude<Destination, { type: 'directory' }>): string {
  const login = user === undefined ? '' : `${encodeURIComponent(user)}@`
  return `${login}${host.includes(':') ? `[${host}]` : host}${port === undefined ? '' : `:${port}`}`
}

function mark({ marks, style }: Terminal, { status }: DatabaseExport, frame: number): string {
  switch (status) {
    case 'pending':
      return style('dim', marks.waiting)
    case 'running':
      return style('cyan', marks.running[frame % marks.running.length] ?? marks.waiting)
    case 'done':
      return style('green', marks.done)
    case 'failed':
    case 'cancelled':
      return style('red', marks.failed)
    default:
      status satisfies never
      return marks.waiting
  }
}

/** Why an export that has ended is not complete; undefined: it is. */
export function exportError({ id, status, error, databases }: ExportView): ErrorBody | undefined {
  if (status === 'done') return undefined
  if (error !== undefined) return error
  if (status === 'cancelled') return { code: 'cancelled', message: `the export ${id} was cancelled` }
  const failed = databases.filter((one) => one.status !== 'done').map(({ database }) => printable(database))
  return { code: 'export_failed', message: `the export ${id} lacks ${failed.join(', ') || 'its databases'}` }
}
