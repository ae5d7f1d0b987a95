/** Which errors of PostgreSQL say that the store is away, and which that something is wrong with what was asked. */
import { Unavailable } from '../../messages/unavailable.ts'

/**
 * SQLSTATEs (appendix A of PostgreSQL's documentation) that say nothing about the statement: connection exceptions,
 * invalid transaction state such as a server that has become a standby, authorisation, a database or a table that is
 * gone, rollback, resources, objects in use, an operator's intervention and system errors.
 */
const CANNOT_NOW = /^(?:(?:08|25|28|3D|3F|40|53|55|57|58)...|42501|42P01)$/

/** Classes of SQLSTATEs that a server that is starting, stopping, overloaded or a standby answers with. */
const PASSES = /^(?:08|25|40|53|55|57|58)...$/

/** Such as ECONNREFUSED, of the network; other codes of Node are about the URL or a certificate. */
const SYSTEM_ERROR = /^E(?!RR_)/

/**
 * Whether a first connection, refused like this, will be refused until somebody changes the URL or the database: a wrong
 * password, a database that does not exist, a certificate of another host.
 */
export function isRefusedForGood(error: unknown): boolean {
  const { code, severity, message = '' } = error as { code?: unknown; severity?: unknown; message?: string }
  // The driver gives no code where the server asks for a password and the URL has none.
  if (typeof code !== 'string') return message.startsWith('SASL: ')
  return typeof severity === 'string' ? !PASSES.test(code) : !SYSTEM_ERROR.test(code)
}

/** Throws the error as the callers of the store are to see it. One without an SQLSTATE comes from the connection. */
export function throwStoreFailure(error: unknown): never {
  const { code, severity, message } = error as { code?: unknown; severity?: unknown; message?: string }
  const fromServer = typeof severity === 'string' && typeof code === 'string'
  if (fromServer && !CANNOT_NOW.test(code)) throw error
  throw new Unavailable(`the store cannot be used: ${message}`, { cause: error })
}
