/** The store in a PostgreSQL database: several coordinators can share it. */
import type pg from 'pg'
import type { Logger } from 'pino'
import type { AuditEntry } from '../../messages/audit.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import type { AgentView, HistoryEntry } from '../../messages/values.ts'
import { type Announcement, announcementId } from '../announcements.ts'
import { announcementRow } from './announcement-row.ts'
import { openDatabase, type PostgresOptions } from './postgres-database.ts'
import { throwStoreFailure } from './postgres-failure.ts'
import * as sql from './postgres-statements.ts'
import type { SessionDocument } from './session-document.ts'
import { POSTGRES, pageStatement } from './session-query.ts'
import { sessionOf, sessionRow } from './session-row.ts'
import {
  type Added,
  type CommandKey,
  type Enrolment,
  MAX_HISTORY,
  type Saved,
  type Store,
  type TargetUsage,
} from './store.ts'
import { storedJson, storedText } from './stored-json.ts'

/** Rows that one statement of `prune` deletes. */
const PRUNE_ROWS = 5000

/** @throws as `openDatabase` */
export async function openPostgresStore(
  url: string,
  logger: Logger,
  options: PostgresOptions = {},
): Promise<Store> {
  const { storeId, pool, query, transaction, documents, ids } = await openDatabase(url, logger, options)

  return {
    id: storeId,
    async ping() {
      const { rows } = await query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby', [])
      if (rows[0]?.standby) throw new Unavailable('the store: its server is a standby')
    },
    async session(id) {
      const [document] = await documents<SessionDocument>(sql.ONE, [id])
      return document && sessionOf(document)
    },
    async sessions(wanted) {
      const { sql: text, values } = pageStatement(wanted, POSTGRES)
      return (await documents<SessionDocument>(text, [...values])).map(sessionOf)
    },
    async targetUsage() {
      const { rows } = await query<{ target: string; sessions: string; bytes: string }>(sql.TARGET_USAGE, [])
      return rows.map(({ target, sessions, bytes }) => ({
        ...{ target, sessions: Number(sessions), cacheBytes: Number(bytes) },
      }))
    },
    async sessionCounts() {
      const { rows } = await query<{ state: string; sessions: string }>(sql.COUNTS, [])
      return Object.fromEntries(rows.map(({ state, sessions }) => [state, Number(sessions)]))
    },
    async turns() {
      const { rows } = await query<{ value: string }>(
        "SELECT value FROM howdah.meta WHERE name = 'turns'",
        [],
      )
      return JSON.parse(rows[0]?.value ?? '[]')
    },
    async saveTurns(turns) {
      await query(
        `INSERT INTO howdah.meta (name, value) VALUES ('turns', $1)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
        [JSON.stringify(turns)],
      )
    },
    addSession(session, { history, answer, announcements = [], audit = [] }, limits) {
      const row = sessionRow(session)
      return transaction<Added>(
        async (client) => {
          if (answer && !(await sql.insertAnswer(client, answer))) return { outcome: 'answered' }
          if (limits) {
            const usage = await lockedUsage(client, row.target)
            const { sessions, cacheBytes } = limits
            const full =
              (sessions !== null && usage.sessions >= sessions) ||
              (cacheBytes !== null && usage.cacheBytes >= cacheBytes)
            if (full) return { outcome: 'full', usage }
          }
          const { rowCount } = await client.query(sql.INSERT_SESSION, [...sql.columns(row), row.createdAt])
          if (rowCount === 0) return { outcome: 'id-taken' }
          await client.query(sql.INSERT_HISTORY, [row.id, storedJson(history)])
          await client.query(sql.INSERT_ANNOUNCEMENTS, [announcementsJson(announcements)])
          await client.query(sql.INSERT_AUDIT_ENTRIES, [storedJson(audit)])
          return { outcome: 'added' }
        },
        ({ outcome }) => outcome === 'added',
      )
    },
    async saveSession(session, { history, answer, announcements = [], audit = [] }) {
      const row = sessionRow({ ...session, version: session.version + 1 })
      const values = [
        ...[...sql.columns(row), session.version, storedJson(history)],
        (history.at(-1)?.number ?? 0) - MAX_HISTORY,
        announcementsJson(announcements),
        storedJson(audit),
      ]
      const update = async (client: Pick<pg.ClientBase, 'query'>): Promise<Saved> =>
        (await client.query(sql.UPDATE_SESSION, values)).rowCount === 0 ? 'stale' : 'saved'
      const saved = answer
        ? await transaction<Saved>(
            async (client) => ((await sql.insertAnswer(client, answer)) ? update(client) : 'answered'),
            (outcome) => outcome === 'saved',
          )
        : await update(pool).catch(throwStoreFailure)
      if (saved === 'saved') session.version = row.version
      return saved
    },
    dueSessions: (now) => ids(sql.DUE, [now]),
    sessionsWithStep: () => ids('SELECT id FROM howdah.session WHERE agent IS NOT NULL', []),
    sessionsLeftBy: (online) => ids(sql.LEFT, [online]),
    sessionsReturnedTo: (online) => ids(sql.RETURNED, [online]),
    sessionsOf: ({ kind, name }) => ids(sql.OPEN_OF[kind], [name]),
    async history(id, limit) {
      return (await documents<HistoryEntry>(sql.HISTORY, [id, limit])).reverse()
    },
    announcements: (savedBefore) => documents<Announcement>(sql.ANNOUNCEMENTS, [savedBefore]),
    async announced(announcements) {
      await query(sql.ANNOUNCED, [announcements.map(announcementId)])
    },
    async answer({ sender, messageId }: CommandKey) {
      const { rows } = await query<{ type: string; body_hash: string; reply: object }>(sql.ANSWER, [
        storedText(messageId),
        storedText(sender),
      ])
      const [row] = rows
      return row && { sender, messageId, type: row.type, bodyHash: row.body_hash, reply: row.reply }
    },
    saveAnswer: (answer) => sql.insertAnswer(pool, answer).catch(throwStoreFailure),
    async saveAuditEntry(entry) {
      await query(sql.INSERT_AUDIT_ENTRIES, [storedJson([entry])])
    },
    async auditEntries(limit) {
      const { rows } = await query<{ number: string; document: AuditEntry }>(sql.AUDIT_ENTRIES, [limit])
      return rows.map(({ number, document }) => ({ number: Number(number), entry: document }))
    },
    async audited(numbers) {
      await query(sql.AUDITED, [numbers])
    },
    agents: () => documents<AgentView>('SELECT document FROM howdah.agent ORDER BY kind, name', []),
    async saveAgent(agent) {
      await query(sql.UPSERT_AGENT, [agent.kind, agent.name, storedJson(agent)])
    },
    removeAgent: (kind, name, answer) =>
      transaction<boolean>(
        async (client) => {
          if (!(await sql.insertAnswer(client, answer))) return false
          await client.query('DELETE FROM howdah.agent WHERE kind = $1 AND name = $2', [kind, name])
          return true
        },
        (removed) => removed,
      ),
    enrolments: () => documents<Enrolment>('SELECT document FROM howdah.enrolment ORDER BY kind, name', []),
    async saveEnrolment(enrolment) {
      await query(sql.UPSERT_ENROLMENT, [enrolment.kind, enrolment.name, storedJson(enrolment)])
    },
    async prune(before) {
      async function pruneAll(text: string): Promise<number> {
        for (let pruned = 0; ; ) {
          const { rowCount } = await query(text, [before, PRUNE_ROWS])
          pruned += rowCount ?? 0
          if (rowCount !== PRUNE_ROWS) return pruned
        }
      }
      for (const text of [sql.PRUNE_ANSWERS, sql.PRUNE_SESSIONS]) await pruneAll(text)
      return { lostAuditEntries: await pruneAll(sql.PRUNE_AUDIT) }
    },
    async close() {
      await pool.end()
    },
  }
}

function announcementsJson(announcements: readonly Announcement[]): string {
  return JSON.stringify(announcements.map(announcementRow))
}

/** Until the transaction ends no other adds a session on the same target. */
async function lockedUsage(client: pg.ClientBase, target: string): Promise<TargetUsage> {
  await client.query("SELECT pg_advisory_xact_lock(hashtext('howdah.target'), hashtext($1))", [target])
  const { rows } = await client.query<{ sessions: string; bytes: string | null }>(sql.USAGE, [target])
  return { sessions: Number(rows[0]?.sessions ?? 0), cacheBytes: Number(rows[0]?.bytes ?? 0) }
}
