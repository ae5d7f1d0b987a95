/** The statements of the PostgreSQL store. */
import type { ClientBase } from 'pg'
import type { SessionRow } from './session-row.ts'
import type { NewAnswer } from './store.ts'
import { storedJson, storedText } from './stored-json.ts'

const COLUMNS = [
  ...['id', 'version', 'settled', 'state', 'repository', 'instance', 'target', 'mount_agent', 'updated_at'],
  ...['next_due', 'agent', 'away', 'cache_bytes', 'reference', 'labels', 'document'],
]

/** In the order of `COLUMNS`, beginning with $1. */
export function columns(row: SessionRow): unknown[] {
  const { id, version, settled, state, repository, instance, target, mountAgent, updatedAt } = row
  const { nextDue, agent, away, cacheBytes, reference, labels, document } = row
  return [
    ...[id, version, settled, state, repository, instance, target, mountAgent, updatedAt],
    ...[nextDue, agent, away, cacheBytes, reference, labels, document],
  ]
}

const parameters = COLUMNS.map((_, index) => `$${index + 1}`).join(', ')
const assignments = COLUMNS.slice(1).map((name, index) => `${name} = $${index + 2}`)
const next = COLUMNS.length + 1

export const ONE = 'SELECT document FROM howdah.session WHERE id = $1'

/** More: the time of creation. */
export const INSERT_SESSION = `
  INSERT INTO howdah.session (${COLUMNS.join(', ')}, created_at)
  VALUES (${parameters}, $${next}) ON CONFLICT DO NOTHING`

export const INSERT_HISTORY = `
  INSERT INTO howdah.history (session, number, document)
  SELECT $1, (entry->>'number')::integer, entry FROM jsonb_array_elements($2::jsonb) AS entry`

/** `from`: what has to have a row, with a comma. */
function insertAnnouncements(parameter: string, from = ''): string {
  return `
    INSERT INTO howdah.announcement (id, session, version, number, document)
    SELECT row ->> 'id', row ->> 'session', (row ->> 'version')::integer, (row ->> 'number')::integer,
      (row ->> 'document')::jsonb
    FROM ${from}jsonb_array_elements(${parameter}::jsonb) AS row
    ON CONFLICT DO NOTHING`
}

export const INSERT_ANNOUNCEMENTS = insertAnnouncements('$1')

/** `from`: as of `insertAnnouncements`. */
function insertAuditEntries(parameter: string, from = ''): string {
  return `
    INSERT INTO howdah.audit (document)
    SELECT entry FROM ${from}jsonb_array_elements(${parameter}::jsonb) AS entry`
}

export const INSERT_AUDIT_ENTRIES = insertAuditEntries('$1')
export const AUDIT_ENTRIES = 'SELECT number, document FROM howdah.audit ORDER BY number LIMIT $1'
export const AUDITED = 'DELETE FROM howdah.audit WHERE number = ANY ($1::bigint[])'

/** More: the version that was read, the new entries of the history, the number up to which old ones are deleted, announcements, and audit entries. */
export const UPDATE_SESSION = `
  WITH saved AS (
    UPDATE howdah.session SET ${assignments.join(', ')} WHERE id = $1 AND version = $${next} RETURNING id
  ), added AS (
    INSERT INTO howdah.history (session, number, document)
    SELECT saved.id, (entry->>'number')::integer, entry
    FROM saved, jsonb_array_elements($${next + 1}::jsonb) AS entry
  ), trimmed AS (
    DELETE FROM howdah.history USING saved WHERE session = saved.id AND number <= $${next + 2}
  ), announced AS (
    ${insertAnnouncements(`$${next + 3}`, 'saved, ')}
  ), audited AS (
    ${insertAuditEntries(`$${next + 4}`, 'saved, ')}
  )
  SELECT id FROM saved`

export const USAGE = `
  SELECT count(*) FILTER (WHERE state <> 'closed') AS sessions, sum(cache_bytes) AS bytes
  FROM howdah.session WHERE NOT settled AND target = $1`

export const TARGET_USAGE = `
  SELECT target, count(*) FILTER (WHERE state <> 'closed') AS sessions, sum(cache_bytes) AS bytes
  FROM howdah.session WHERE NOT settled GROUP BY target ORDER BY target COLLATE "C"`

export const COUNTS = `
  SELECT state, count(*) AS sessions FROM howdah.session WHERE NOT settled GROUP BY state`

export const DUE = 'SELECT id FROM howdah.session WHERE next_due <= $1 ORDER BY next_due'
export const LEFT = `
  SELECT id FROM howdah.session WHERE agent IS NOT NULL AND NOT away AND agent <> ALL ($1::text[])`
export const RETURNED = 'SELECT id FROM howdah.session WHERE agent = ANY ($1::text[]) AND away'
export const OPEN_OF = {
  target: 'SELECT id FROM howdah.session WHERE NOT settled AND target = $1',
  mount: 'SELECT id FROM howdah.session WHERE NOT settled AND mount_agent = $1',
}

export const ANNOUNCEMENTS = `
  SELECT document FROM howdah.announcement WHERE saved_at <= $1 ORDER BY session, version, number`
export const ANNOUNCED = 'DELETE FROM howdah.announcement WHERE id = ANY ($1::text[])'

export const HISTORY = 'SELECT document FROM howdah.history WHERE session = $1 ORDER BY number DESC LIMIT $2'

/** An answer of schema version 1 has no sender, and holds for all. */
export const ANSWER = `
  SELECT type, body_hash, reply FROM howdah.answer
  WHERE message = $1 AND sender IN ($2, '') ORDER BY sender DESC LIMIT 1`

/** @returns false when there is an answer already */
export async function insertAnswer(client: Pick<ClientBase, 'query'>, answer: NewAnswer): Promise<boolean> {
  const { sender, messageId, type, bodyHash, reply, audit } = answer
  const { rowCount } = await client.query(
    `WITH added AS (
       INSERT INTO howdah.answer (sender, message, type, body_hash, reply)
       VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING message
     ), audited AS (
       INSERT INTO howdah.audit (document) SELECT $6::jsonb FROM added
     )
     SELECT message FROM added`,
    [storedText(sender), storedText(messageId), type, bodyHash, storedJson(reply), storedJson(audit)],
  )
  return rowCount === 1
}

export const UPSERT_AGENT = `
  INSERT INTO howdah.agent (kind, name, document) VALUES ($1, $2, $3)
  ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document`

export const UPSERT_ENROLMENT = `
  INSERT INTO howdah.enrolment (kind, name, document) VALUES ($1, $2, $3)
  ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document`

export const PRUNE_ANSWERS = `
  DELETE FROM howdah.answer WHERE (message, sender) IN (
    SELECT message, sender FROM howdah.answer WHERE created_at < $1 LIMIT $2)`
export const PRUNE_SESSIONS = `
  DELETE FROM howdah.session WHERE id IN (
    SELECT id FROM howdah.session WHERE settled AND updated_at < $1 LIMIT $2)`
export const PRUNE_AUDIT = `
  DELETE FROM howdah.audit WHERE number IN (
    SELECT number FROM howdah.audit WHERE saved_at < $1 ORDER BY number LIMIT $2)`
