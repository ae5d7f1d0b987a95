/** Watches what an export waits for: which lock, and who holds it. pg_dump itself does not report lock waits. */
import type pg from 'pg'
import { endClient } from '../../postgres/connections/client.ts'
import { APPLICATION, connectTo, type InstanceAddress } from '../../postgres/connections/instance-client.ts'
import { EXPORT_APPLICATION } from './instance-programs.ts'

export interface LockWatch {
  /** The lock that it waits for, at the last check: "a lock on …"; undefined: none. */
  readonly waiting: string | undefined
  close(): Promise<void>
}

/** Milliseconds. */
const CHECK_EVERY_MS = 2_000
const QUERY_DEADLINE_MS = 30_000

interface Holder {
  readonly pid: number
  readonly role: string | null
  readonly application: string | null
  readonly state: string | null
  readonly since: string | null
  readonly kind: string | null
  readonly gid: string | null
}

interface Row {
  readonly relation: string | null
  readonly holders: readonly Holder[]
}

/**
 * The first lock of this database that an export waits for. Holders without a process are prepared transactions, identified
 * by the lock that each has on its own transaction id; those without a role are processes of the server itself (PostgreSQL
 * documentation, pg_blocking_pids and pg_locks). row_to_json makes columns that a version does not have null.
 */
const QUERY = `
  SELECT l.relation::pg_catalog.regclass::text AS relation,
         (SELECT coalesce(json_agg(json_build_object(
                   'pid', b.pid, 'role', a.usename, 'application', a.application_name, 'state', a.state,
                   'since', to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                   'kind', row_to_json(a)->>'backend_type', 'gid', p.gid)), '[]')
            FROM (SELECT DISTINCT unnest(pg_catalog.pg_blocking_pids(l.pid)) AS pid) AS b
            LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
            LEFT JOIN (SELECT h.relation, h.database, x.gid FROM pg_catalog.pg_locks h
                         JOIN pg_catalog.pg_locks own ON own.virtualtransaction = h.virtualtransaction AND own.pid IS NULL
                         JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
                        WHERE h.granted AND h.pid IS NULL) AS p
              ON b.pid = 0 AND p.relation = l.relation AND p.database = l.database) AS holders
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity w ON w.pid = l.pid
    JOIN pg_catalog.pg_database d ON d.oid = l.database
   WHERE NOT l.granted AND l.locktype = 'relation' AND d.datname = pg_catalog.current_database()
     AND w.application_name = ANY ($1)
   LIMIT 1`

/** Checks at intervals until it is closed. `onChange` is called when `waiting` changes. Never rejects. */
export function watchLocks(address: InstanceAddress, database: string, onChange: () => void): LockWatch {
  let waiting: string | undefined
  let closed = false
  let client: pg.Client | undefined
  let checking: Promise<void> = Promise.resolve()

  async function check(): Promise<void> {
    client ??= await connectTo(address, database, { queryDeadlineMs: QUERY_DEADLINE_MS })
    const [row] = (await client.query<Row>(QUERY, [[APPLICATION, EXPORT_APPLICATION]])).rows
    const seen = row && describeLock(row)
    if (seen === waiting) return
    waiting = seen
    onChange()
  }

  const timer = setInterval(() => {
    checking = checking
      .then(() => (closed ? undefined : check()))
      // The watch only adds an explanation; the export itself reports errors of the instance.
      .catch(async () => {
        const broken = client
        client = undefined
        if (broken) await endClient(broken)
      })
  }, CHECK_EVERY_MS)

  return {
    get waiting() {
      return waiting
    },
    async close() {
      closed = true
      clearInterval(timer)
      await checking
      if (client) await endClient(client)
    },
  }
}

function describeLock({ relation, holders }: Row): string {
  const who = holders.map(describeHolder).join(' and ')
  return `a lock on ${relation ?? 'a relation'}${who === '' ? '' : `, which is held by ${who}`}`
}

function describeHolder({ pid, role, application, state, since, kind, gid }: Holder): string {
  if (pid === 0)
    return `a prepared transaction${gid === null ? '' : ` (ROLLBACK PREPARED '${gid}' or COMMIT PREPARED ends it)`}`
  if (role === null)
    return kind === 'startup'
      ? 'the recovery, which is paused in the middle of a transaction; promote, or advance it'
      : `the process ${pid}${kind === null ? '' : ` (${kind})`}`
  const more = [
    `role "${role}"`,
    application ? `application "${application}"` : undefined,
    state,
    since && `since ${since}`,
  ]
  return `the process ${pid} (${more.filter((part) => part).join(', ')})`
}
