/** The tables of the PostgreSQL store, and how a store of an earlier release is brought up to date. */
import type { ClientBase } from 'pg'
import { newStoreId, pendingMigrations, SCHEMA_VERSION } from './schema-version.ts'
import type { SessionDocument } from './session-document.ts'
import { sessionOf, sessionRow } from './session-row.ts'

/** What leads to each version from the one before. */
const MIGRATIONS: Readonly<Record<number, (client: ClientBase) => Promise<void>>> = {
  async 1(client) {
    await client.query(VERSION_1)
  },
  async 2(client) {
    await client.query(VERSION_2)
    const { rows: open } = await client.query<{ id: string; document: SessionDocument }>(
      'SELECT id, document FROM howdah.session WHERE NOT settled',
    )
    for (const { id, document } of open) {
      const { nextDue, agent, away } = sessionRow(sessionOf(document))
      const update = 'UPDATE howdah.session SET next_due = $1, agent = $2, away = $3 WHERE id = $4'
      await client.query(update, [nextDue, agent, away, id])
    }
    await client.query("INSERT INTO howdah.meta (name, value) VALUES ('store', $1)", [newStoreId()])
  },
  async 3(client) {
    await client.query(VERSION_3)
  },
  async 4(client) {
    await client.query(VERSION_4)
  },
}

/**
 * Brings the tables to the present version, in one transaction.
 * @returns the id of the store
 * @throws HowdahError `configuration` when the store is newer than this program
 */
export async function migrate(client: ClientBase): Promise<string> {
  await client.query('BEGIN')
  // Two coordinators that start at once do not create or change the same table twice.
  await client.query("SELECT pg_advisory_xact_lock(hashtext('howdah.schema'))")
  for (const version of pendingMigrations(await schemaVersion(client), 'store.url')) {
    await MIGRATIONS[version]?.(client)
  }
  await client.query(
    `INSERT INTO howdah.meta (name, value) VALUES ('schema', $1)
     ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE meta.value <> excluded.value`,
    [String(SCHEMA_VERSION)],
  )
  const id = await metaValue(client, 'store')
  await client.query('COMMIT')
  return id ?? ''
}

/** 0: none of our tables. */
async function schemaVersion(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ meta: boolean; session: boolean }>(
    `SELECT to_regclass('howdah.meta') IS NOT NULL AS meta, to_regclass('howdah.session') IS NOT NULL AS session`,
  )
  if (rows[0]?.meta) return Number(await metaValue(client, 'schema'))
  return rows[0]?.session ? 1 : 0
}

async function metaValue(client: ClientBase, name: 'schema' | 'store'): Promise<string | undefined> {
  const { rows } = await client.query<{ value: string }>('SELECT value FROM howdah.meta WHERE name = $1', [
    name,
  ])
  return rows[0]?.value
}

const VERSION_1 = `
  CREATE SCHEMA IF NOT EXISTS howdah;
  CREATE TABLE howdah.session (
    id text PRIMARY KEY,
    version integer NOT NULL,
    settled boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    document jsonb NOT NULL
  );
  CREATE INDEX session_by_age ON howdah.session (settled, created_at);
  CREATE TABLE howdah.history (
    session text NOT NULL REFERENCES howdah.session (id) ON DELETE CASCADE,
    number integer NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (session, number)
  );
  CREATE TABLE howdah.answer (
    message_id text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    reply jsonb NOT NULL
  );
  CREATE TABLE howdah.agent (
    kind text NOT NULL,
    name text NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (kind, name)
  );
`

// The columns without a default, and the column message_id that is gone, keep a program of version 1, which does not look
// for a version, from writing.
const VERSION_2 = `
  CREATE TABLE howdah.meta (name text PRIMARY KEY, value text NOT NULL);
  ALTER TABLE howdah.session
    ADD COLUMN state text NOT NULL DEFAULT '',
    ADD COLUMN repository text NOT NULL DEFAULT '',
    ADD COLUMN instance text NOT NULL DEFAULT '',
    ADD COLUMN target text NOT NULL DEFAULT '',
    ADD COLUMN mount_agent text NOT NULL DEFAULT '',
    ADD COLUMN reference text,
    ADD COLUMN labels jsonb,
    ADD COLUMN next_due double precision,
    ADD COLUMN agent text,
    ADD COLUMN away boolean NOT NULL DEFAULT false,
    ADD COLUMN cache_bytes bigint NOT NULL DEFAULT 0;
  UPDATE howdah.session SET
    state = document ->> 'state',
    repository = document -> 'request' ->> 'repository',
    instance = document -> 'request' ->> 'instance',
    target = document -> 'request' ->> 'target',
    mount_agent = document ->> 'mountAgent',
    cache_bytes = coalesce((document -> 'usage' ->> 'cacheBytes')::bigint, 0);
  ALTER TABLE howdah.session
    ALTER COLUMN state DROP DEFAULT,
    ALTER COLUMN repository DROP DEFAULT,
    ALTER COLUMN instance DROP DEFAULT,
    ALTER COLUMN target DROP DEFAULT,
    ALTER COLUMN mount_agent DROP DEFAULT;
  DROP INDEX howdah.session_by_age;
  CREATE INDEX session_by_age ON howdah.session (created_at, id);
  CREATE INDEX session_by_reference ON howdah.session (reference, created_at) WHERE reference IS NOT NULL;
  CREATE INDEX session_open_by_age ON howdah.session (created_at, id) WHERE NOT settled;
  CREATE INDEX session_settled_by_update ON howdah.session (updated_at) WHERE settled;
  CREATE INDEX session_due ON howdah.session (next_due) WHERE next_due IS NOT NULL;
  CREATE INDEX session_by_agent ON howdah.session (agent, away) WHERE agent IS NOT NULL;
  CREATE INDEX session_open_by_target ON howdah.session (target) WHERE NOT settled;
  CREATE TABLE howdah.announcement (
    id text PRIMARY KEY,
    session text NOT NULL,
    version integer NOT NULL,
    number integer NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now(),
    document jsonb NOT NULL
  );
  ALTER TABLE howdah.answer RENAME COLUMN message_id TO message;
  ALTER TABLE howdah.answer
    DROP CONSTRAINT answer_pkey,
    ADD COLUMN sender text NOT NULL DEFAULT '',
    ADD COLUMN type text NOT NULL DEFAULT '',
    ADD COLUMN body_hash text NOT NULL DEFAULT '',
    ADD PRIMARY KEY (message, sender);
  CREATE INDEX answer_by_age ON howdah.answer (created_at);
`

const VERSION_3 = `
  CREATE TABLE howdah.enrolment (
    kind text NOT NULL,
    name text NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (kind, name)
  );
`

const VERSION_4 = `
  CREATE TABLE howdah.audit (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saved_at timestamptz NOT NULL DEFAULT now(),
    document jsonb NOT NULL
  );
`
