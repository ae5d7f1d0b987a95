/**
 * Follows the progress of pg_dump on its stderr, and counts the rows of each table in the same snapshot after it has been
 * dumped, when its blocks are local.
 */
import type { DatabaseSnapshot, Table } from '../source/snapshot.ts'

export interface TableCount {
  readonly schema: string
  readonly name: string
  readonly rows: number
}

export interface DumpProgress {
  /** Handles a line of pg_dump's stderr. */
  onLine(line: string): void
  /** Handles the start of a table that is not dumped by pg_dump. */
  tableStarted(table: { readonly schema: string; readonly name: string }): void
  /** To be called when all tables are dumped. @returns their row counts, once all are counted */
  finish(): Promise<TableCount[]>
  /** So far. */
  readonly state: () => { readonly tables: number; readonly tablesDone: number; readonly rows: number }
}

/**
 * Source: pg_dump.c and parallel.c, unchanged since 9.6; pg_dump runs with English messages. The prefix of a message is
 * written separately (logging.c), so a message of another worker process may come in between.
 */
const BEGINS = /dumping contents of table "(.*)"$/s
/** A table name may contain line breaks. */
const BEGINS_BROKEN = /dumping contents of table ".*$/s
const MOST_BREAKS = 64
const FINISHED_IN_PARALLEL = /finished item \d+ TABLE DATA /

export function followDump(snapshot: DatabaseSnapshot, onChange: () => void): DumpProgress {
  const byName = new Map(snapshot.tables.map((table) => [`${table.schema}.${table.name}`, table]))
  const begun: Table[] = []
  const counts: TableCount[] = []
  let finishedInParallel = 0
  let ended = false
  let queued = 0
  let counting = Promise.resolve()
  let broken: string | undefined

  function done(): number {
    if (ended) return begun.length
    return Math.max(finishedInParallel, finishedInParallel > 0 ? 0 : begun.length - 1, 0)
  }

  function countOne(table: Table): void {
    counting = counting.then(async () => {
      counts.push({ schema: table.schema, name: table.name, rows: await snapshot.count(table) })
      onChange()
    })
    // Reported by `finish`.
    counting.catch(() => undefined)
  }

  function advance(): void {
    while (queued < done()) {
      const table = begun[queued]
      queued += 1
      if (table) countOne(table)
    }
    onChange()
  }

  function begins(table: Table | undefined): void {
    if (table === undefined || begun.includes(table)) return
    begun.push(table)
    advance()
  }

  return {
    onLine(line) {
      const text = broken === undefined ? line : `${broken}\n${line}`
      const name = BEGINS.exec(text)?.[1]
      const isBroken = name === undefined && BEGINS_BROKEN.test(text)
      broken = isBroken && text.split('\n').length < MOST_BREAKS ? text : undefined
      if (name !== undefined) begins(byName.get(name) ?? byName.get(BEGINS.exec(line)?.[1] ?? ''))
      else if (FINISHED_IN_PARALLEL.test(line)) {
        finishedInParallel += 1
        advance()
      }
    },
    tableStarted: ({ schema, name }) => begins(byName.get(`${schema}.${name}`)),
    async finish() {
      ended = true
      advance()
      await counting
      return counts
    },
    state: () => ({
      tables: ended ? begun.length : Math.max(snapshot.tables.length, begun.length),
      tablesDone: done(),
      rows: counts.reduce((sum, { rows }) => sum + rows, 0),
    }),
  }
}
