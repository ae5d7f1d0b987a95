/**
 * Settings that every connection of Howdah to a published instance brings in its startup packet. Pure.
 *
 * Whoever ran the cluster may have given any role or database settings of its own (ALTER ROLE, ALTER DATABASE), and the
 * backup has them. Only what a client sends at its start ranks above those (PostgreSQL documentation, "Parameter
 * Interaction via the Configuration File" and ALTER ROLE); the server's command line does not.
 */

interface SessionSetting {
  readonly name: string
  readonly value: string
  /** First major version that has the parameter; open where absent. A version refuses what it does not know. */
  readonly from?: number
  /** Only a superuser may set it. */
  readonly superuser?: true
}

const SETTINGS: readonly SessionSetting[] = [
  // Libraries that this machine may lack, or that act on their own.
  { name: 'session_preload_libraries', value: '', superuser: true },
  { name: 'local_preload_libraries', value: '' },
  // Login triggers fire for superusers and in recovery too, and may write, fail, or reach out.
  { name: 'event_triggers', value: 'off', from: 17, superuser: true },
  // A role by which a superuser gives up its rights.
  { name: 'role', value: 'none' },
  // A hot standby takes no serializable transaction, and a read-only one could not make or drop a database.
  { name: 'default_transaction_isolation', value: 'read committed' },
  { name: 'default_transaction_read_only', value: 'off' },
  { name: 'default_transaction_deferrable', value: 'off' },
  // Ends of sessions that have to wait.
  { name: 'statement_timeout', value: '0' },
  { name: 'lock_timeout', value: '0' },
  { name: 'idle_in_transaction_session_timeout', value: '0' },
  { name: 'idle_session_timeout', value: '0', from: 14 },
  { name: 'transaction_timeout', value: '0', from: 17 },
  { name: 'exit_on_error', value: 'off' },
  { name: 'temp_file_limit', value: '-1', superuser: true },
  // How values are written and read.
  { name: 'DateStyle', value: 'ISO, MDY' },
  { name: 'IntervalStyle', value: 'postgres' },
  { name: 'TimeZone', value: 'UTC' },
  { name: 'extra_float_digits', value: '3' },
  { name: 'bytea_output', value: 'hex' },
  { name: 'standard_conforming_strings', value: 'on' },
  { name: 'array_nulls', value: 'on' },
  { name: 'quote_all_identifiers', value: 'off' },
  { name: 'transform_null_equals', value: 'off' },
  { name: 'lc_messages', value: 'C', superuser: true },
  { name: 'client_min_messages', value: 'warning' },
  // What is made goes where the source has it, and triggers fire as they are meant to.
  { name: 'default_tablespace', value: '' },
  { name: 'default_table_access_method', value: 'heap', from: 12 },
  { name: 'temp_tablespaces', value: '' },
  { name: 'session_replication_role', value: 'origin', superuser: true },
  { name: 'row_security', value: 'off' },
  { name: 'jit', value: 'off', from: 11 },
]

/** Whose schemas names without one are looked up in: none but pg_catalog, or what role and database say. */
export type SearchPath = 'none' | 'of the database'

export interface SessionOptions {
  /** Default: none. */
  readonly searchPath?: SearchPath
  /** The role is no superuser, and is refused when it brings what it may not set. */
  readonly ordinary?: boolean
  /** The role that the session becomes at once. Default: it stays what it logged in as. */
  readonly role?: string | undefined
}

/**
 * The settings as command-line options of a backend, for the startup packet's `options` and for PGOPTIONS.
 * @param version major, as `majorVersion` gives it
 */
export function sessionOptions(
  version: number,
  { searchPath = 'none', ordinary = false, role = 'none' }: SessionOptions = {},
): string {
  return SETTINGS.filter(({ from = 0, superuser }) => version >= from && !(ordinary && superuser))
    .concat(searchPath === 'none' ? [{ name: 'search_path', value: '' }] : [])
    .map(({ name, value }) => `-c ${name}=${escaped(name === 'role' ? role : value)}`)
    .join(' ')
}

/** PostgreSQL documentation, "Message Formats", StartupMessage: blanks divide options, a backslash takes one as it is. */
function escaped(value: string): string {
  return value.replace(/[\\\s]/g, '\\$&')
}
