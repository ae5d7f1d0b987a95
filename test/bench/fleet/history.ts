/** Fills a store with the history of a fleet that ran for long: copies of a settled session, with ids and times of their own. */
import { DatabaseSync } from 'node:sqlite'

const DAY_MS = 86_400_000
/** Settled sessions are kept for 30 days. */
const SPREAD_MS = 25 * DAY_MS

/** Copies one settled session of the store, with its history entries, `count` times. The coordinator must not run. */
export function fillHistory(path: string, count: number): void {
  const db = new DatabaseSync(path)
  try {
    const session = db.prepare('SELECT * FROM session WHERE settled = 1 LIMIT 1').get()
    if (session === undefined) throw new Error('the store has no settled session to copy')
    const entries = db.prepare('SELECT * FROM history WHERE session = ?').all(String(session.id))
    const insertSession = inserting(db, 'session', session)
    const insertEntry = entries[0] && inserting(db, 'history', entries[0])
    db.exec('BEGIN')
    for (let number = 0; number < count; number++) {
      const id = `past-${number.toString(36).padStart(6, '0')}`
      const at = new Date(Date.now() - SPREAD_MS + (number * SPREAD_MS) / count).toISOString()
      const copied = (value: unknown) =>
        typeof value === 'string' ? value.replaceAll(String(session.id), id) : value
      insertSession({ ...session, id, created_at: at, updated_at: at, document: copied(session.document) })
      for (const entry of entries) insertEntry?.({ ...entry, session: id, document: copied(entry.document) })
    }
    db.exec('COMMIT')
  } finally {
    db.close()
  }
}

function inserting(db: DatabaseSync, table: string, row: object): (values: object) => void {
  const names = Object.keys(row)
  const places = names.map((name) => `:${name}`).join(', ')
  const statement = db.prepare(`INSERT INTO ${table} (${names.join(', ')}) VALUES (${places})`)
  return (values) => {
    statement.run(values as Record<string, string>)
  }
}
