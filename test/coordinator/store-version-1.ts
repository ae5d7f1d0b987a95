/** A store as the release without a schema version made it: its statements, word for word, and sessions as it wrote them. */
import { newSession, type Session } from '../../coordinator/session.ts'
import { toDocument } from '../../coordinator/store/session-document.ts'
import { agentView, request } from './store-values.ts'
import type { RawDatabase } from './stores.ts'

const SQLITE = `
  PRAGMA journal_mode = WAL;
  CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    document TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS session_by_age ON session (settled, created_at);
  CREATE TABLE IF NOT EXISTS history (
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (session, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS answer (
    message_id TEXT PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    reply TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS agent (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, name)
  ) STRICT;
`

const POSTGRES = `
  CREATE SCHEMA IF NOT EXISTS howdah;
  SET search_path = howdah;
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
`

const CREATED = '2026-11-22T06:00:00.000Z'

/** One that nobody planned, one whose target is about to answer, one that is published and grew, and one that is closed. */
const sessions: readonly Session[] = [
  newSession('unplanned', request, 'backup-1', CREATED),
  {
    ...newSession('asking', request, 'backup-1', CREATED),
    sequence: 2,
    begun: ['preflight'],
    current: {
      ...{ step: 'preflight', direction: 'run', sequence: 2, status: 'running' },
      ...{ startedAt: CREATED, heardAt: CREATED },
    },
  },
  {
    ...newSession('published', request, 'backup-1', CREATED),
    state: 'published',
    everPublished: true,
    results: { resolve: {}, preflight: { port: 5432 }, mount: {}, recover: {} } as Session['results'],
    usage: { fetchedBytes: 1, totalBytes: 2, cacheBytes: 4096 },
    stepToRetry: 'recover',
  },
  { ...newSession('closed', request, 'backup-1', CREATED), state: 'closed', desired: 'absent' },
]

export async function makeVersion1({ kind, run }: RawDatabase): Promise<void> {
  const text = (value: unknown): string => `'${String(value).replaceAll("'", "''")}'`
  const json = (value: unknown): string => text(JSON.stringify(value))
  const rows = sessions.map((session) => {
    const settled = session.state === 'closed'
    const flag = kind === 'sqlite' ? Number(settled) : settled
    const columns = [text(session.id), session.version, flag, text(CREATED), text(CREATED)]
    return `INSERT INTO session (id, version, settled, created_at, updated_at, document)
      VALUES (${columns.join(', ')}, ${json(toDocument(session))});`
  })
  const entry = { number: 1, at: CREATED, type: 'command', text: 'publish shop of main' }
  await run(`${kind === 'sqlite' ? SQLITE : POSTGRES}
    ${rows.join('\n')}
    INSERT INTO history (session, number, document) VALUES ('published', 1, ${json(entry)});
    INSERT INTO answer (message_id, reply) VALUES ('m1', ${json({ accepted: true, session: 'published' })});
    INSERT INTO agent (kind, name, document) VALUES ('target', 'db-7', ${json(agentView)});
  `)
}
