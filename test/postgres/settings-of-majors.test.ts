/**
 * What the code says of the settings of each major, against the servers themselves: PostgreSQL 13 to 18. What it says of
 * 9.6 to 12 is of their documentation, and not tested.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { sessionOptions } from '../../agents/target/postgres/connections/session-settings.ts'
import { instanceSettings } from '../../agents/target/postgres/settings/configuration.ts'
import { LIMIT_DEFAULTS } from '../../agents/target/postgres/settings/limits.ts'
import { SWITCHED_OFF } from '../../agents/target/postgres/settings/quarantine.ts'
import { REFUSED_SETTINGS } from '../../agents/target/postgres/settings/user-settings.ts'
import type { SystemUser } from '../../agents/target/postgres/specification.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { everyMajor, type MajorBinaries } from '../support/postgres-majors.ts'

const run = promisify(execFile)

/** Of `postgres --describe-config`, which leaves out those that are only for developers. */
interface Described {
  readonly name: string
  readonly group: string
}

/** Groups of settings by which a server reaches others, listens, runs programs, loads code or writes elsewhere. */
const REACHING =
  /^(Replication|Connections and Authentication|File Locations|Write-Ahead Log \/ (Archiv|Recovery Target|Summar)|.*Where to Log|.*Shared Library)/

/**
 * Settings of these groups that are left as production has them, by why that is right; a new one must be judged.
 */
const LEFT_IN_REACHING_GROUPS: readonly string[] = [
  // Limits and timeouts of the clients' connections.
  ...[
    'authentication_timeout',
    'client_connection_check_interval',
    'max_connections',
    'reserved_connections',
  ],
  ...['superuser_reserved_connections', 'tcp_keepalives_count', 'tcp_keepalives_idle'],
  ...['tcp_keepalives_interval', 'tcp_user_timeout', 'password_encryption', 'scram_iterations'],
  ...['md5_password_warnings', 'gss_accept_delegation', 'krb_caseins_users', 'bonjour_name'],
  // Files that are read when TLS or Kerberos is used, and how TLS is spoken. It is off unless the user turns it on.
  ...['ssl_ca_file', 'ssl_cert_file', 'ssl_ciphers', 'ssl_crl_dir', 'ssl_crl_file', 'ssl_dh_params_file'],
  ...['ssl_ecdh_curve', 'ssl_groups', 'ssl_key_file', 'ssl_max_protocol_version', 'ssl_min_protocol_version'],
  ...['ssl_passphrase_command_supports_reload', 'ssl_prefer_server_ciphers', 'ssl_tls13_ciphers'],
  'krb_server_keyfile',
  // Of the logging collector and of syslog, which are off.
  ...['event_source', 'log_directory', 'log_file_mode', 'log_filename', 'log_rotation_age'],
  ...['log_rotation_size', 'log_truncate_on_rotation', 'syslog_facility', 'syslog_ident'],
  ...['syslog_sequence_numbers', 'syslog_split_messages'],
  // Of slots, senders and receivers, of which the instance has none when it starts.
  ...['idle_replication_slot_timeout', 'max_replication_slots', 'max_slot_wal_keep_size', 'max_wal_senders'],
  ...['output_plugin_libraries', 'track_commit_timestamp', 'wal_sender_timeout', 'hot_standby_feedback'],
  ...['vacuum_defer_cleanup_age', 'max_standby_archive_delay', 'max_standby_streaming_delay'],
  ...['wal_receiver_create_temp_slot', 'wal_receiver_status_interval', 'wal_receiver_timeout'],
  ...['wal_retrieve_retry_interval', 'wal_summary_keep_time'],
  // Of subscriptions, for which there are no workers.
  ...['max_active_replication_origins', 'max_sync_workers_per_subscription'],
  'max_parallel_apply_workers_per_subscription',
  // Decided by preload-libraries.ts.
  ...['shared_preload_libraries', 'session_preload_libraries', 'local_preload_libraries'],
  // Libraries and extensions of this machine, which the databases name as well.
  ...['jit_provider', 'extension_destdir'],
]

/** Settings that a major has and its predecessor has not, and that are left as production has them: they only tune. */
const NEW_AND_LEFT: Readonly<Record<string, readonly string[]>> = {
  '14': [
    ...['client_connection_check_interval', 'compute_query_id', 'default_toast_compression'],
    ...['enable_async_append', 'enable_memoize', 'huge_page_size', 'idle_session_timeout'],
    ...['log_recovery_conflict_waits', 'ssl_crl_dir', 'track_wal_io_timing', 'vacuum_failsafe_age'],
    'vacuum_multixact_failsafe_age',
  ],
  '15': [
    ...[
      'recovery_prefetch',
      'recursive_worktable_factor',
      'stats_fetch_consistency',
      'wal_decode_buffer_size',
    ],
    // By Debian, and by a minor release that every major got at its time.
    ...['extension_destdir', 'output_plugin_libraries'],
  ],
  '16': [
    ...['createrole_self_grant', 'enable_presorted_aggregate', 'file_extend_method', 'gss_accept_delegation'],
    ...['icu_validation_level', 'max_parallel_apply_workers_per_subscription', 'reserved_connections'],
    ...['scram_iterations', 'vacuum_buffer_usage_limit'],
  ],
  '17': [
    ...['allow_alter_system', 'commit_timestamp_buffers', 'enable_group_by_reordering', 'event_triggers'],
    ...['io_combine_limit', 'max_notify_queue_pages', 'multixact_member_buffers', 'multixact_offset_buffers'],
    ...['notify_buffers', 'serializable_buffers', 'subtransaction_buffers', 'transaction_buffers'],
    ...['transaction_timeout', 'wal_summary_keep_time'],
  ],
  '18': [
    ...['autovacuum_vacuum_max_threshold', 'autovacuum_worker_slots', 'enable_distinct_reordering'],
    ...['enable_self_join_elimination', 'extension_control_path', 'file_copy_method'],
    ...['idle_replication_slot_timeout', 'io_max_combine_limit', 'io_max_concurrency', 'io_workers'],
    ...['log_lock_failures', 'max_active_replication_origins', 'md5_password_warnings', 'ssl_groups'],
    ...['ssl_tls13_ciphers', 'track_cost_delay_timing', 'vacuum_max_eager_freeze_failure_rate'],
    'vacuum_truncate',
  ],
}

/** Refused settings that --describe-config leaves out, or that an extension has. */
const NOT_DESCRIBED = ['config_file', 'citus.cluster_name']

describe('Settings of the majors of PostgreSQL', function () {
  this.timeout(60_000)
  const majors = everyMajor()
  const described = new Map<string, readonly Described[]>()
  let user: SystemUser

  before(async () => {
    user = await postgresAccount()
    for (const { version, binaries } of majors) {
      const text = (await postgres(binaries, ['--describe-config'])) ?? ''
      const rows = text.trimEnd().split('\n')
      // Name, context, group and more.
      const settings = rows
        .map((row) => row.split('\t'))
        .map(([name = '', , group = '']) => ({ name, group }))
      expect(settings.length).to.be.greaterThan(250)
      described.set(version, settings)
    }
  })

  /** What the program prints; undefined: it refuses. */
  async function postgres(binaries: string, args: readonly string[]): Promise<string | undefined> {
    const { uid, gid } = user
    const options = { uid, gid, cwd: '/', env: { LC_ALL: 'C' }, maxBuffer: 2 ** 24 }
    const said = await run(`${binaries}/postgres`, [...args], options).catch(() => undefined)
    return said?.stdout.trimEnd()
  }

  /** The value of a setting without any configuration; undefined: the major does not have it. */
  const defaultOf = ({ binaries }: MajorBinaries, name: string, args: readonly string[] = []) =>
    postgres(binaries, ['-D', '/', '-c', 'config_file=/dev/null', ...args, '-C', name])

  /** Names of the settings that Howdah gives to an instance of the major, whatever the backup has. */
  function fixedOf({ version, binaries }: MajorBinaries): Set<string> {
    const { fixed, given } = instanceSettings({
      spec: {
        ...{ session: 'shop-1', mountPoint: '/nowhere', cachePath: '/nowhere', binaries, version, user },
        ...{ port: 54321, recoverTo: { type: 'time', value: '2026-01-02 03:04:05+00' } },
      },
      backup: new Map(),
      control: { limits: {}, walSegmentBytes: 16 * 1024 ** 2 },
      memory: { total: 2 ** 34, freeHugePages: 0 },
      preload: new Map(),
      recovered: true,
    })
    return new Set([...fixed.keys(), ...given.keys()])
  }

  const optionsOf = ({ version }: MajorBinaries): Map<string, string> =>
    new Map(
      Array.from(
        sessionOptions(Number(version)).matchAll(/-c (\w+)=((?:\\.|\S)*)/g),
        ([, name = '', value = '']) => [name, value.replaceAll('\\', '')],
      ),
    )

  const namesOf = ({ version }: MajorBinaries) => (described.get(version) ?? []).map(({ name }) => name)

  for (const [index, major] of majors.entries()) {
    describe(`PostgreSQL ${major.version}`, () => {
      it("has none of Howdah's settings that it is not given", async () => {
        const elsewhere = new Set(majors.flatMap((other) => [...fixedOf(other), ...optionsOf(other).keys()]))
        const own = new Set([...fixedOf(major), ...optionsOf(major).keys()])
        for (const name of elsewhere)
          if (!own.has(name)) expect(await defaultOf(major, name), name).to.equal(undefined)
      })

      it('accepts the settings of sessions', async () => {
        const options = optionsOf(major)
        expect(options.size).to.be.greaterThan(25)
        const args = [...options].flatMap(([name, value]) => ['-c', `${name}=${value}`])
        expect(await defaultOf(major, 'port', args)).to.equal('5432')
        expect(await defaultOf(major, 'port', [...args, '-c', 'no_such=1'])).to.equal(undefined)
      })

      it('has no setting that reaches out and was not judged', () => {
        const fixed = fixedOf(major)
        const unknown = (described.get(major.version) ?? [])
          .filter(({ name, group }) => REACHING.test(group) && !fixed.has(name))
          .map(({ name }) => name)
        expect(unknown.filter((name) => !LEFT_IN_REACHING_GROUPS.includes(name))).to.deep.equal([])
      })

      const before = majors[index - 1]
      if (before !== undefined)
        it(`has no setting that PostgreSQL ${before.version} has not and that was not judged`, () => {
          const known = new Set([
            ...namesOf(before),
            ...fixedOf(major),
            ...Object.entries(NEW_AND_LEFT).flatMap(([version, names]) =>
              Number(version) <= Number(major.version) ? names : [],
            ),
          ])
          expect(namesOf(major).filter((name) => !known.has(name))).to.deep.equal([])
        })

      it('has the defaults that the code expects', async () => {
        for (const [name, value] of Object.entries(LIMIT_DEFAULTS))
          expect(await defaultOf(major, name), name).to.equal(String(value))
        expect(await defaultOf(major, 'max_wal_size')).to.equal('1024')
        expect(await defaultOf(major, 'min_wal_size')).to.equal('80')
      })
    })
  }

  it('that are refused to users, and that are reported as switched off, are settings of some major', () => {
    const known = new Set([...majors.flatMap(namesOf), ...NOT_DESCRIBED])
    const used = [...REFUSED_SETTINGS, ...SWITCHED_OFF.flatMap(({ settings }) => settings)]
    expect(used.filter((name) => !known.has(name))).to.deep.equal([])
  })
})
