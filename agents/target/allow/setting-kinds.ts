/**
 * Settings with which whoever may set them acts on the machine and not only on the instance. By kinds of names, since
 * extensions bring settings of their own: PostgreSQL and its extensions name what they do alike (documentation,
 * "Server Configuration" of 9.6 to 18). test/target/setting-kinds.test.ts compares them with what PostgreSQL itself lists.
 */

const KINDS: readonly { readonly what: string; readonly names: RegExp }[] = [
  // archive_command, restore_command, archive_cleanup_command, recovery_end_command, ssl_passphrase_command;
  // plperl.on_init, plperl.on_plperlu_init, pltclu.start_proc; pgsodium.getkey_script
  { what: 'runs programs', names: /(_command|_script|\.on_\w*init|\.\w*start_proc|\.boot_proc)$/ },
  // shared_, session_ and local_preload_libraries, archive_library, oauth_validator_libraries, jit_provider,
  // dynamic_library_path, extension_control_path, extension_destdir; pljava.libjvm_location, pljava.classpath
  {
    what: 'loads code',
    names: /(_library|_libraries|(^|_)provider|library_path|control_path|destdir|classpath|vmoptions)$/,
  },
  // data_directory, log_directory, unix_socket_directories, stats_temp_directory, external_pid_file, hba_file, ssl_key_file,
  // ssl_crl_dir, krb_server_keyfile, log_filename, promote_trigger_file
  {
    what: 'names files of the machine',
    names: /((^|_)file|keyfile|filename|_dir|_directory|_directories|_location)$/,
  },
  { what: 'connects to another server', names: /conninfo$/ },
]

/** What a setting of such a kind does, as the rest of a sentence; undefined: it is of none. `name` is in lower case. */
export function settingKind(name: string): string | undefined {
  return KINDS.find(({ names }) => names.test(name))?.what
}
