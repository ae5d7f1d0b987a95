/**
 * Decides which preloaded libraries of production a published instance loads.
 *
 * Out go libraries that would act on their own (schedulers, replication, calls to other hosts) and those that the
 * target does not have and can do without. A library without which the data cannot be read must be there.
 */
import { HowdahError } from '../../../messages/errors.ts'
import { parseList, type Settings } from './backup-configuration.ts'

/** Libraries that are never loaded, with the reason that the user is told. */
const REMOVED: Record<string, string> = {
  pg_cron: 'it would run production jobs',
  pg_partman_bgw: 'it would run partition maintenance',
  pg_squeeze: 'it would rewrite tables on its schedule',
  pg_prewarm: 'it would read all of the cached blocks from the repository',
  pg_net: 'it would send requests to other hosts',
  pg_later: 'it would run queued jobs',
  pgmq: 'it would work on production queues',
  pglogical: 'it would replicate',
  pglogical_output: 'it serves replication',
  spock: 'it would replicate',
  bdr: 'it would replicate',
  repmgr: 'it belongs to a replication cluster',
  pgautofailover: 'it belongs to a replication cluster',
  pg_failover_slots: 'it would contact the primary',
  bgw_replstatus: 'it reports the replication status on a port of its own',
  powa: 'it would take snapshots on its schedule',
}

/** Libraries that stay, with settings that keep them quiet. */
const QUIETED: Record<string, Readonly<Record<string, string>>> = {
  timescaledb: { 'timescaledb.max_background_workers': '0', 'timescaledb.telemetry_level': 'off' },
  citus: {
    'citus.recover_2pc_interval': '-1',
    'citus.distributed_deadlock_detection_factor': '-1',
    'citus.defer_shard_delete_interval': '-1',
    'citus.enable_statistics_collection': 'off',
  },
}

/** Libraries that own table contents, access methods or WAL records. */
const ESSENTIAL = new Set(['timescaledb', 'citus', 'citus_columnar', 'orioledb', 'pg_tde'])

export const PRELOAD_SETTINGS = [
  'shared_preload_libraries',
  'session_preload_libraries',
  'local_preload_libraries',
] as const

export interface PreloadDecision {
  /** Overrides for the settings that must change, and for libraries that stay. */
  readonly settings: ReadonlyMap<string, string>
  readonly warnings: readonly string[]
}

/**
 * @param exists whether the target has a library of that name
 * @throws HowdahError `library_missing` when one is missing without which the data cannot be read
 */
export async function decidePreload(
  settings: Settings,
  exists: (library: string) => Promise<boolean>,
): Promise<PreloadDecision> {
  const overrides = new Map<string, string>()
  const warnings: string[] = []
  for (const name of PRELOAD_SETTINGS) {
    const libraries = parseList(settings.get(name) ?? '')
    const kept: string[] = []
    for (const library of libraries) {
      const base = baseName(library)
      const reason = REMOVED[base]
      if (reason !== undefined) {
        warnings.push(`${library} was taken out of ${name}: ${reason}.`)
      } else if (await exists(library)) {
        kept.push(library)
        for (const [key, value] of Object.entries(QUIETED[base] ?? {})) overrides.set(key, value)
      } else if (ESSENTIAL.has(base)) {
        throw new HowdahError(
          'library_missing',
          `The backup's ${name} needs the library ${library}, which the target does not have; its data cannot be read without. Install the package that has it and publish again.`,
        )
      } else {
        warnings.push(`${library} was taken out of ${name}: the target does not have it.`)
      }
    }
    if (kept.length < libraries.length) overrides.set(name, kept.map(quote).join(','))
  }
  return { settings: overrides, warnings }
}

function baseName(library: string): string {
  return library.replace(/^.*\//, '').replace(/\.so$/, '')
}

function quote(library: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(library) ? library : `"${library.replaceAll('"', '""')}"`
}
