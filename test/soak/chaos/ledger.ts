/**
 * Owns the record of what one user of a chaos run has committed, in rows with known ids, and compares an instance with
 * it.
 */
import type pg from 'pg'
import type { SessionView } from '../../../messages/values.ts'
import { connect } from '../../durability/support/load.ts'
import type { Random } from '../../durability/support/random.ts'
import { Violation } from './judge.ts'

export interface Ledger {
  /** Commits some rows, as far as the instance permits it; nothing while the ledger is frozen. */
  write(view: SessionView): Promise<void>
  /** Whether every committed row is there, and no row of unknown origin. @throws Violation */
  check(view: SessionView): Promise<void>
  /** The instance begins again without rows. Ends a freeze. */
  clear(): void
  /** Whether rows may be lost is undecided, as while a republish is being requested: nothing is written until then. */
  freeze(frozen: boolean): void
}

export interface LedgerOptions {
  readonly database: string
  readonly random: Random
  readonly onRow: () => void
}

/** Of the backup and of the archive after it. */
const NOTES = 1100

export function createLedger({ database, random, onRow }: LedgerOptions): Ledger {
  /** COMMIT was answered. */
  let committed = new Set<number>()
  /** COMMIT was sent, without an answer. */
  let unknown = new Set<number>()
  let lastRow = 0
  let frozen = false

  async function commitRows(client: pg.Client): Promise<void> {
    await client.query('CREATE TABLE IF NOT EXISTS ledger (id int PRIMARY KEY)')
    for (let rows = 1 + random.below(30); rows > 0; rows--) {
      const id = ++lastRow
      unknown.add(id)
      await client.query('INSERT INTO ledger VALUES ($1)', [id])
      unknown.delete(id)
      committed.add(id)
      onRow()
    }
  }

  function compare(session: string, found: ReadonlySet<number>): void {
    const lost = [...committed].filter((id) => !found.has(id))
    if (lost.length > 0) {
      throw new Violation(session, `${lost.length} committed rows are lost: ${lost.slice(0, 10)}`)
    }
    const foreign = [...found].filter((id) => !committed.has(id) && !unknown.has(id))
    if (foreign.length > 0) {
      throw new Violation(session, `rows are there that were never written: ${foreign.slice(0, 10)}`)
    }
    committed = new Set(found)
    unknown = new Set()
  }

  return {
    async write(view) {
      if (view.state !== 'published' || frozen) return
      const client = connect(view, database)
      try {
        await client.connect()
        await commitRows(client)
      } catch {
        // A fault hit it: what is committed so far has to be there afterwards.
      } finally {
        await client.end().catch(() => undefined)
      }
    },
    async check(view) {
      const client = connect(view, database)
      await client.connect()
      try {
        compare(view.id, await rowsOf(client))
        const notes = await client.query<{ n: number }>('SELECT count(*)::int AS n FROM notes')
        const count = notes.rows[0]?.n
        if (count !== NOTES) throw new Violation(view.id, `${count} notes of ${NOTES}`)
      } finally {
        await client.end().catch(() => undefined)
      }
    },
    clear() {
      committed = new Set()
      unknown = new Set()
      frozen = false
    },
    freeze(value) {
      frozen = value
    },
  }
}

async function rowsOf(client: pg.Client): Promise<ReadonlySet<number>> {
  const made = await client.query<{ made: boolean }>("SELECT to_regclass('ledger') IS NOT NULL AS made")
  if (!made.rows[0]?.made) return new Set()
  const { rows } = await client.query<{ id: number }>('SELECT id FROM ledger')
  return new Set(rows.map(({ id }) => id))
}
