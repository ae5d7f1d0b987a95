/**
 * Statements that were begun before the server read its configuration again. A backend reads settings between two
 * statements only: one that runs on keeps fsync off to its end, its commit included.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Identity, queryRow } from '../connections/connection.ts'
import { type InstanceSpec, majorVersion } from '../specification.ts'

/** Whoever is not done by then hears of it, rather than of a commit that a power cut takes back. */
const PATIENCE_MS = 5_000
const ASK_EVERY_MS = 50
const ASK_TIMEOUT_MS = 10_000

/** Of clients: background workers look at settings while they work. 9.6 does not tell them apart but by what they say. */
function oldStatements({ version }: InstanceSpec): string {
  const isClient =
    majorVersion(version) >= 10 ? "backend_type = 'client backend'" : "query NOT LIKE 'autovacuum:%'"
  return `FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND ${isClient} AND state IN ('active', 'fastpath function call')
      AND query_start < pg_conf_load_time()`
}

/**
 * Resolves when all of them have ended, by themselves or because they took too long.
 * @returns whether there were any
 * @throws the error of the connection; the signal's reason
 */
export async function endOldStatements(
  spec: InstanceSpec,
  as: Identity,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const patience = performance.now() + PATIENCE_MS
  for (let waited = false; ; waited = true) {
    const verb = performance.now() > patience ? 'count(pg_terminate_backend(pid))' : 'count(*)'
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
