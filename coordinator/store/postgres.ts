/** The store in a PostgreSQL database: several coordinators can share it. */
import pg from 'pg'
import type { Logger } from 'pino'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentView, HistoryEntry } from '../../messages/values.ts'
import { isSettled, type Session } from '../session.ts'
import { fromDocument, type SessionDocument, toDocument } from './session-document.ts'
import type { Store } from './store.ts'

// The lock keeps two coordinators that start at once from creating the same table twice.
const SCHEMA = `
  BEGIN;
  SELECT pg_advisory_xact_lock(hashtext('howdah.schema'));
  CREATE SCHEMA IF NOT EXISTS howdah;
  CREATE TABLE IF NOT EXISTS howdah.session (
    id text PRIMARY KEY,
    version integer NOT NULL,
    settled boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    document jsonb NOT NULL
  );
  CREATE INDEX IF NOT EXISTS session_by_age ON howdah.session (settled, created_at);
  CREATE TABLE IF NOT EXISTS howdah.history (
    session text NOT NULL REFERENCES howdah.session (id) ON DELETE CASCADE,
    number integer NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (session, number)
  );
  CREATE TABLE IF NOT EXISTS howdah.answer (
    message_id text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    reply jsonb NOT NULL
  );
  CREATE TABLE IF NOT EXISTS howdah.agent (
    kind text NOT NULL,
    name text NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (kind, name)
  );
  COMMIT;
`

const INSERT_SESSION = `
  INSERT INTO howdah.session (id, version, settled, created_at, updated_at, document)
  VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`

const INSERT_HISTORY = `
  INSERT INTO howdah.history (session, number, document)
  SELECT $1, (entry->>'number')::integer, entry FROM jsonb_array_elements($2::jsonb) AS entry`

const UPDATE_SESSION = `
  WITH saved AS (
    UPDATE howdah.session SET version = $1, settled = $2, updated_at = $3, document = $4
    WHERE id = $5 AND version = $6 RETURNING id
  ), added AS (
    INSERT INTO howdah.history (session, number, document)
    SELECT saved.id, (entry->>'number')::integer, entry FROM saved, jsonb_array_elements($7::jsonb) AS entry
  )
  SELECT id FROM saved`

const INSERT_ANSWER = 'INSERT INTO howdah.answer (message_id, reply) VALUES ($1, $2) ON CONFLICT DO NOTHING'

/** @throws HowdahError `configuration` when the database cannot be reached or used */
export async function openPostgresStore(url: string, logger: Logger): Promise<Store> {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'howdah coordinator',
    max: 5,
    connectionTimeoutMillis: 10_000,
    query_timeout: 30_000,
  })
  pool.on('error', (error) => logger.warn({ err: error }, 'an idle connection of the store broke'))
  try {
    await pool.query(SCHEMA)
  } catch (error) {
    await pool.end()
    throw new HowdahError('configuration', `store.url: ${(error as Error).message}`, { cause: error })
  }
  const documents = async <T>(sql: string, values: unknown[]): Promise<T[]> =>
    (await pool.query<{ document: T }>(sql, values)).rows.map((row) => row.document)
  const sessions = async (sql: string, values: unknown[]): Promise<Session[]> =>
    (await documents<SessionDocument>(sql, values)).map(fromDocument)

  return {
    async session(id) {
      return (await sessions('SELECT document FROM howdah.session WHERE id = $1', [id]))[0]
    },
    sessions({ settled, limit }) {
      return sessions(
        'SELECT document FROM howdah.session WHERE $1 OR NOT settled ORDER BY created_at DESC LIMIT $2',
        [settled, limit ?? null],
      )
    },
    async addSession(session, history, answer) {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        const answers = await client.query(INSERT_ANSWER, [answer.messageId, answer.reply])
        const inserted = await client.query(INSERT_SESSION, columns(session))
        const added = answers.rowCount === 1 && inserted.rowCount === 1
        if (added) await client.query(INSERT_HISTORY, [session.id, JSON.stringify(history)])
        await client.query(added ? 'COMMIT' : 'ROLLBACK')
        client.release()
        return added
      } catch (error) {
        client.release(true)
        throw error
      }
    },
    async saveSession(session, history) {
      const next = { ...session, version: session.version + 1 }
      const [id, version, settled, , updatedAt, document] = columns(next)
      const { rowCount } = await pool.query(UPDATE_SESSION, [
        version,
        settled,
        updatedAt,
        document,
        id,
        session.version,
        JSON.stringify(history),
      ])
      if (rowCount === 0) return false
      session.version = next.version
      return true
    },
    async history(id, limit) {
      const newest = await documents<HistoryEntry>(
        'SELECT document FROM howdah.history WHERE session = $1 ORDER BY number DESC LIMIT $2',
        [id, limit],
      )
      return newest.reverse()
    },
    async answer(messageId) {
      const { rows } = await pool.query<{ reply: object }>(
        'SELECT reply FROM howdah.answer WHERE message_id = $1',
        [messageId],
      )
      return rows[0]?.reply
    },
    async saveAnswer({ messageId, reply }) {
      await pool.query(INSERT_ANSWER, [messageId, reply])
    },
    agents() {
      return documents<AgentView>('SELECT document FROM howdah.agent ORDER BY kind, name', [])
    },
    async saveAgent(agent) {
      await pool.query(
        `INSERT INTO howdah.agent (kind, name, document) VALUES ($1, $2, $3)
         ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document`,
        [agent.kind, agent.name, agent],
      )
    },
    async prune(before) {
      await pool.query('DELETE FROM howdah.answer WHERE created_at < $1', [before])
      await pool.query('DELETE FROM howdah.session WHERE settled AND updated_at < $1', [before])
    },
    async close() {
      await pool.end()
    },
  }
}

function columns(session: Session): [string, number, boolean, string, string, SessionDocument] {
  const settled = isSettled(session)
  return [session.id, session.version, settled, session.createdAt, session.updatedAt, toDocument(session)]
}
