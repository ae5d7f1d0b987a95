/** The kinds of settings that reach further than the instance, against what PostgreSQL itself has. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { settingKind } from '../../agents/target/allow/setting-kinds.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { everyMajor } from '../support/postgres-majors.ts'

/** Settings of PostgreSQL 9.6 to 18, from "Server Configuration" of each version, and of extensions that are common. */
const FAR_REACHING: Readonly<Record<string, readonly string[]>> = {
  'runs programs': [
    ...['archive_command', 'restore_command', 'archive_cleanup_command', 'recovery_end_command'],
    ...['ssl_passphrase_command', 'plperl.on_init', 'plperl.on_plperl_init', 'plperl.on_plperlu_init'],
    ...['pltcl.start_proc', 'pltclu.start_proc', 'plv8.start_proc', 'pgsodium.getkey_script'],
  ],
  'loads code': [
    ...[
      'shared_preload_libraries',
      'session_preload_libraries',
      'local_preload_libraries',
      'archive_library',
    ],
    ...['oauth_validator_libraries', 'jit_provider', 'dynamic_library_path', 'extension_control_path'],
    ...['extension_destdir', 'pljava.libjvm_location', 'pljava.vmoptions', 'pljava.classpath'],
  ],
  'names files of the machine': [
    ...['data_directory', 'config_file', 'hba_file', 'ident_file', 'external_pid_file', 'log_directory'],
    ...['log_filename', 'unix_socket_directories', 'stats_temp_directory', 'ssl_cert_file', 'ssl_key_file'],
    ...['ssl_ca_file', 'ssl_crl_file', 'ssl_crl_dir', 'ssl_dh_params_file', 'krb_server_keyfile'],
    ...['promote_trigger_file', 'trigger_file'],
  ],
  'connects to another server': ['primary_conninfo'],
}

/** Descriptions that speak of files, programs or libraries, of settings that only tune what is done with them. */
const HARMLESS: ReadonlySet<string> = new Set([
  ...['archive_mode', 'archive_timeout', 'data_directory_mode', 'log_file_mode', 'log_rotation_age'],
  ...['log_rotation_size', 'log_temp_files', 'log_truncate_on_rotation', 'logging_collector'],
  ...['max_files_per_process', 'temp_file_limit', 'unix_socket_group', 'unix_socket_permissions'],
  ...['ssl_passphrase_command_supports_reload', 'wal_keep_size', 'wal_recycle', 'wal_init_zero'],
  ...['max_wal_size', 'min_wal_size', 'wal_segment_size', 'wal_skip_threshold', 'wal_sync_method', 'fsync'],
  ...['recovery_init_sync_method', 'restart_after_crash', 'remove_temp_files_after_crash'],
  // Names of files of PostgreSQL's own, of tablespaces, of the program in the log of the system.
  ...['timezone_abbreviations', 'temp_tablespaces', 'syslog_ident'],
  ...['debug_discard_caches', 'debug_io_direct', 'allow_in_place_tablespaces', 'summarize_wal'],
])

describe('settings that reach further than the instance', () => {
  for (const [kind, names] of Object.entries(FAR_REACHING)) {
    for (const name of names) {
      it(`${name}: ${kind}`, () => {
        // The path of a library or a Java machine is a file, too: either is refused.
        expect(settingKind(name)).to.be.oneOf(
          name.startsWith('pljava') ? ['loads code', 'names files of the machine'] : [kind],
        )
      })
    }
  }

  it('are not those that only tune', () => {
    for (const name of [...HARMLESS, 'work_mem', 'ssl', 'port', 'search_path', 'app.note'])
      expect(settingKind(name), name).to.equal(undefined)
  })

  for (const { version, binaries } of everyMajor()) {
    it(`are all that PostgreSQL ${version} says to take a file, a directory, a program or a library`, async () => {
      const { uid, gid } = await postgresAccount()
      const options = { uid, gid, cwd: '/', maxBuffer: 2 ** 24 }
      const { stdout } = await promisify(execFile)(join(binaries, 'postgres'), ['--describe-config'], options)
      // Name, context, group, type, default, minimum, maximum, description.
      const texts = stdout
        .split('\n')
        .map((line) => line.split('\t'))
        .filter(([, , , type]) => type === 'STRING')
      expect(texts.length).to.be.greaterThan(50)
      const reaching = texts.filter(
        ([name = '', , group = '', , , , , ...description]) =>
          /shell command|\bfiles?\b|director|librar|module|provider|\bpath\b|program|connection string/i.test(
            `${group.includes('Logging') ? '' : group} ${description.join(' ')}`,
          ) || settingKind(name) !== undefined,
      )
      const missed = reaching.map(([name = '']) => name).filter((name) => settingKind(name) === undefined)
      expect(missed.filter((name) => !HARMLESS.has(name))).to.deep.equal([])
    })
  }
})
