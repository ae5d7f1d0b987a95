/**
 * Settings that every connection of Howdah to a published instance sends in its startup packet. Pure.
 *
 * The backup contains the settings of roles and databases (ALTER ROLE, ALTER DATABASE). Only settings in a client's startup
 * packet override those (PostgreSQL documentation, "Parameter Interaction via the Configuration File" and ALTER ROLE); the
 * server's command line does not.
 */

interface SessionSetting {
  readonly name: string
  readonly value: string
  /** First major version that has the parameter; default: all. A server rejects unknown parameters. */
  readonly from?: number
  /** Only a superuser may set it. */
  readonly superuser?: true
}

const SETTINGS: readonly SessionSetting[] = [
  // Libraries may be missing on this machine, or act on their own.
  { name: 'session_preload_libraries', value: '', superuser: true },
  { name: 'local_preload_libraries', value: '' },
  // Login triggers fire for superusers and in recovery too, and may write, fail, or contact other servers.
  { name: 'event_triggers', value: 'off', from: 17, superuser: true },
  // A role setting may drop the superuser's privileges.
  { name: 'role', value: 'none' },
  // A hot standby supports no serializable transactions, and a read-only one cannot create or drop a database.
  { name: 'default_transaction_isolation', value: 'read committed' },
  { name: 'default_transaction_read_only', value: 'off' },
  { name: 'default_transaction_deferrable', value: 'off' },
  // Timeouts and limits that would abort a session.
  { name: 'statement_timeout', value: '0' },
  { name: 'lock_timeout', value: '0' },
  { name: 'idle_in_transaction_session_timeout', value: '0' },
  { name: 'idle_session_timeout', value: '0', from: 14 },
  { name: 'transaction_timeout', value: '0', from: 17 },
  { name: 'exit_on_error', value: 'off' },
  { name: 'temp_file_limit', value: '-1', superuser: true },
  // Formats of values.
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
  // Objects are created in the default places, and triggers fire normally.
  { name: 'default_tablespace', value: '' },
  { name: 'default_table_access_method', value: 'heap', from: 12 },
  { name: 'temp_tablespaces', value: '' },
  { name: 'session_replication_role', value: 'origin', superuser: true },
  { name: 'row_security', value: 'off' },
  { name: 'jit', value: 'off', from: 11 },
]

/** The search path: only pg_catalog, or that of role and database. */
export type SearchPath = 'none' | 'of the database'

export interface SessionOptions {
  /** Default: none. */
  readonly searchPath?: SearchPath
  /** The role is no superuser: settings reserved for superusers are omitted, since the server would refuse the connection. */
  readonly ordinary?: boolean
  /** The role that the session sets. Default: none. */
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

/** PostgreSQL documentation, "Message Formats", StartupMessage: white space separates options, a backslash escapes it. */
function escaped(value: string): string {
  return value.replace(/[\\\s]/g, '\\$&')
}
