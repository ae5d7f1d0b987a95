/**
 * Statements that began before the server reloaded its configuration. A backend applies new settings only between two
 * statements, so a running one keeps fsync off until its end, including its commit.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Identity, queryRow } from '../connections/connection.ts'
import { type InstanceSpec, majorVersion } from '../specification.ts'

/** Then the backend is terminated: its client sees an error, rather than a commit that a power failure would undo. */
const GRACE_MS = 5_000
const ASK_EVERY_MS = 50
const ASK_TIMEOUT_MS = 10_000

/** Only of clients: background workers apply settings while they run. In 9.6 only the query text distinguishes them. */
function oldStatements({ version }: InstanceSpec): string {
  const isClient =
    majorVersion(version) >= 10 ? "backend_type = 'client backend'" : "query NOT LIKE 'autovacuum:%'"
  return `FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND ${isClient} AND state IN ('active', 'fastpath function call')
      AND query_start < pg_conf_load_time()`
}

/**
 * Resolves when all of them have ended, by themselves or by termination after the grace period.
 * @returns whether there were any
 * @throws the error of the connection; the signal's reason
 */
export async function endOldStatements(
  spec: InstanceSpec,
  as: Identity,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const deadline = performance.now() + GRACE_MS
  for (let waited = false; ; waited = true) {
    const verb = performance.now() > deadline ? 'count(pg_terminate_backend(pid))' : 'count(*)'
    const row = await queryRow<{ running: number }>(
      spec,
      as,
      `SELECT ${verb}::int AS running ${oldStatements(spec)}`,
      ASK_TIMEOUT_MS,
    )
    if ((row?.running ?? 0) === 0) return waited
    await delay(ASK_EVERY_MS, undefined, signal && { signal })
  }
}
