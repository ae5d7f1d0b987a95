/**
 * Decides which preloaded libraries of production a published instance loads.
 *
 * A library can run any code when it is loaded. So only known libraries are loaded: those that do nothing by themselves, and
 * those without which the data cannot be read. All others are loaded only if the user asks for them.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { parseList } from '../../../runtime/postgresql-conf.ts'
import type { Settings } from './backup-configuration.ts'

/** Libraries that act only within sessions that use them, or collect statistics of sessions in memory. */
const QUIET: ReadonlySet<string> = new Set([
  ...['pg_stat_statements', 'pg_stat_kcache', 'pg_qualstats', 'pg_wait_sampling', 'pg_stat_monitor'],
  ...['pg_store_plans', 'pg_show_plans', 'auto_explain', 'pgaudit', 'hypopg', 'system_stats', 'pg_nodemx'],
  ...['plpgsql', 'plpgsql_check', 'plprofiler', 'plugin_debugger', 'plperl', 'plpython3', 'plpython2'],
  ...['pltcl', 'plv8', 'pljava', 'plr', 'plrust', 'pllua', 'plproxy'],
  ...['pg_hint_plan', 'set_user', 'passwordcheck', 'credcheck', 'auth_delay', 'safeupdate', 'supautils'],
  ...['anon', 'pgtt', 'pg_variables', 'pg_statement_rollback', 'orafce', 'pg_readonly', 'pgextwlist'],
  ...['pg_trgm', 'pg_bigm', 'zhparser', 'pg_jieba', 'rum', 'age', 'vector', 'pg_ivm', 'pg_pathman', 'zson'],
  ...['pgoutput', 'test_decoding', 'wal2json', 'decoderbufs', 'old_snapshot', 'postgis-3'],
])

/** Libraries that own table contents, access methods or WAL records, with settings that keep them quiet. */
const ESSENTIAL: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  timescaledb: { 'timescaledb.max_background_workers': '0', 'timescaledb.telemetry_level': 'off' },
  citus: {
    // Citus ignores nodes of other clusters, so production's workers are not contacted, whatever the catalog says.
    'citus.cluster_name': 'howdah',
    'citus.recover_2pc_interval': '-1',
    'citus.distributed_deadlock_detection_factor': '-1',
    'citus.defer_shard_delete_interval': '-1',
    'citus.background_task_queue_interval': '-1',
    'citus.enable_statistics_collection': 'off',
  },
  citus_columnar: {},
  columnar: {},
  orioledb: {},
  pg_tde: {},
  pg_search: {},
  vchord: {},
}

/** Extensions whose tables cannot be used unless the library of that name is preloaded at server start. */
const NEEDED_AT_START: ReadonlySet<string> = new Set([
  'citus',
  'timescaledb',
  'orioledb',
  'pg_tde',
  'pg_search',
  'vchord',
])

/** Why well-known libraries are omitted. */
const REASONS: Readonly<Record<string, string>> = {
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
  pgactive: 'it would replicate',
  repmgr: 'it belongs to a replication cluster',
  pgautofailover: 'it belongs to a replication cluster',
  pg_failover_slots: 'it would contact the primary',
  bgw_replstatus: 'it reports the replication status on a port of its own',
  powa: 'it would take snapshots on its schedule',
  pg_task: 'it would run production jobs',
  pg_tle: 'it may run functions of the databases at each login',
  pgsodium: 'it runs a program of production to get its key',
}
const UNKNOWN = 'it is not known to do nothing by itself'

export const PRELOAD_SETTINGS = [
  'shared_preload_libraries',
  'session_preload_libraries',
  'local_preload_libraries',
] as const

export interface PreloadDecision {
  /** Overrides of the list settings, and settings of the libraries that are loaded. */
  readonly settings: ReadonlyMap<string, string>
  readonly warnings: readonly string[]
}

/**
 * @param settings of the backup
 * @param extensions of its databases: production's list may be in a file that the backup does not contain
 * @param chosen the user's settings: these lists are loaded unchanged
 * @param exists whether the target has a library of that name
 * @throws HowdahError `library_missing` for a missing library without which the data cannot be read, `configuration` for
 *   a missing one of the user's lists
 */
export async function decidePreload(
  settings: Settings,
  extensions: readonly string[],
  chosen: Settings,
  exists: (library: string) => Promise<boolean>,
): Promise<PreloadDecision> {
  const overrides = new Map<string, string>()
  const warnings: string[] = []
  for (const name of PRELOAD_SETTINGS) {
    const isServers = name === 'shared_preload_libraries'
    const listed = parseList(settings.get(name) ?? '')
    // Some of them must be the first in the list.
    const libraries = [...(isServers ? unlisted(extensions, listed) : []), ...listed]
    const asked = chosen.get(name)
    const { kept, left } =
      asked === undefined ? await choose(name, libraries, exists) : await requireAll(name, asked, exists)
    for (const library of kept) {
      for (const [key, value] of Object.entries(ESSENTIAL[baseName(library)] ?? {})) overrides.set(key, value)
    }
    // shared_preload_libraries is always overridden: ALTER SYSTEM must not restore omitted libraries.
    if (asked === undefined && (isServers || left.length > 0)) overrides.set(name, kept.map(quote).join(','))
    if (left.length === 0) continue
    const omitted = left.map(({ library, reason }) => `${library} (${reason})`).join(', ')
    warnings.push(
      `Left out of ${name}: ${omitted}. To load a library all the same, give the whole list: --setting ${name}=${[...kept, '…'].join(',')}.`,
    )
  }
  return { settings: overrides, warnings }
}

/** Libraries that extensions need at server start and the backup's configuration does not list. */
function unlisted(extensions: readonly string[], listed: readonly string[]): string[] {
  const bases = new Set(listed.map(baseName))
  return [...NEEDED_AT_START].filter((name) => extensions.includes(name) && !bases.has(name))
}

interface Choice {
  readonly kept: readonly string[]
  readonly left: readonly { readonly library: string; readonly reason: string }[]
}

async function choose(
  name: string,
  libraries: readonly string[],
  exists: (library: string) => Promise<boolean>,
): Promise<Choice> {
  const kept: string[] = []
  const left: { library: string; reason: string }[] = []
  for (const library of libraries) {
    const base = baseName(library)
    const isEssential = Object.hasOwn(ESSENTIAL, base)
    if (!isEssential && !QUIET.has(base)) left.push({ library, reason: REASONS[base] ?? UNKNOWN })
    else if (await exists(library)) kept.push(library)
    else if (isEssential) throw missingLibrary(name, library)
    else left.push({ library, reason: 'the target does not have it' })
  }
  return { kept, left }
}

async function requireAll(
  name: string,
  asked: string,
  exists: (library: string) => Promise<boolean>,
): Promise<Choice> {
  const kept = parseList(asked)
  for (const library of kept) {
    if (!(await exists(library)))
      throw new HowdahError(
        'configuration',
        `The setting ${name} names the library ${library}, which the target does not have. Install the package that has it, or leave it out.`,
        { field: `settings.${name}` },
      )
  }
  return { kept, left: [] }
}

/** @param name the setting that lists it */
export function missingLibrary(name: string, library: string): HowdahError {
  return new HowdahError(
    'library_missing',
    `The backup's ${name} needs the library ${library}, which the target does not have; its data cannot be read without. Install the package that has it and publish again.`,
  )
}

/** Whether tables, indexes or WAL of a cluster that has this extension or library cannot be read without it. */
export function isEssential(extension: string): boolean {
  return Object.hasOwn(ESSENTIAL, baseName(extension))
}

/** $libdir/plugins/NAME.so and the like. */
function baseName(library: string): string {
  return library.replace(/^.*\//, '').replace(/\.so$/, '')
}

function quote(library: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(library) ? library : `"${library.replaceAll('"', '""')}"`
}
