/** Fills a store as a fleet that ran for long does: with copies of a session, with ids and times of their own. */
import { DatabaseSync } from 'node:sqlite'
import pg from 'pg'

const DAY_MS = 86_400_000
/** Settled sessions are kept for 30 days. */
const SPREAD_MS = 25 * DAY_MS

export interface Copies {
  /** Sessions that are published. */
  readonly open: number
  /** Sessions that are closed. */
  readonly settled: number
}

/** Where the coordinator has its store. */
export type StorePlace = { readonly path: string } | { readonly url: string }

/** Copies a session of each kind, with its history entries, within the store. The coordinator must not run. */
export async function fillStore(place: StorePlace, { open, settled }: Copies): Promise<void> {
  for (const [isSettled, count] of [
    [true, settled],
    [false, open],
  ] as const) {
    if (count === 0) continue
    if ('path' in place) fillSqlite(place.path, isSettled, count)
    else await fillPostgres(place.url, isSettled, count)
  }
}

const prefixOf = (isSettled: boolean): string => (isSettled ? 'past' : 'open')

async function fillPostgres(url: string, isSettled: boolean, count: number): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ id: string }>(
      'SELECT id FROM howdah.session WHERE settled = $1 LIMIT 1',
      [isSettled],
    )
    if (rows[0] === undefined) throw new Error(`the store has no ${prefixOf(isSettled)} session to copy`)
    const { id } = rows[0]
    const columns = await client.query<{ name: string }>(
      "SELECT column_name AS name FROM information_schema.columns WHERE table_schema = 'howdah' AND table_name = 'session' AND is_generated = 'NEVER' AND column_name NOT IN ('id', 'created_at', 'updated_at', 'document')",
    )
    const others = columns.rows.map(({ name }) => name).join(', ')
    const copyId = `'${prefixOf(isSettled)}-' || lpad(to_hex(n), 6, '0')`
    const at = 'now() - make_interval(secs => $2::float8 * (1 - n::float8 / $3))'
    await client.query(
      `INSERT INTO howdah.session (id, created_at, updated_at, document, ${others})
       SELECT ${copyId}, ${at}, ${at}, replace(document::text, $1, ${copyId})::jsonb, ${others}
       FROM howdah.session, generate_series(1, $3::int) AS n WHERE id = $1`,
      [id, SPREAD_MS / 1000, count],
    )
    await client.query(
      `INSERT INTO howdah.history (session, number, document)
       SELECT ${copyId}, number, replace(document::text, $1, ${copyId})::jsonb
       FROM howdah.history, generate_series(1, $2::int) AS n WHERE session = $1`,
      [id, count],
    )
    await client.query('ANALYZE')
  } finally {
    await client.end()
  }
}

function fillSqlite(path: string, isSettled: boolean, count: number): void {
  const db = new DatabaseSync(path)
  try {
    const session = db.prepare('SELECT * FROM session WHERE settled = ? LIMIT 1').get(isSettled ? 1 : 0)
    if (session === undefined) throw new Error(`the store has no ${prefixOf(isSettled)} session to copy`)
    const entries = db.prepare('SELECT * FROM history WHERE session = ?').all(String(session.id))
    const insertSession = inserting(db, 'session', session)
    const insertEntry = entries[0] && inserting(db, 'history', entries[0])
    db.exec('BEGIN')
    for (let number = 0; number < count; number++) {
      const id = `${prefixOf(isSettled)}-${number.toString(36).padStart(6, '0')}`
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
