/** Which errors of PostgreSQL say that the store is away, and which that something is wrong with what was asked. */
import { Unavailable } from '../../messages/unavailable.ts'

/**
 * SQLSTATEs (appendix A of PostgreSQL's documentation) that say nothing about the statement: connection exceptions,
 * invalid transaction state such as a server that has become a standby, authorisation, a database or a table that is
 * gone, rollback, resources, objects in use, an operator's intervention and system errors.
 */
const CANNOT_NOW = /^(?:(?:08|25|28|3D|3F|40|53|55|57|58)...|42501|42P01)$/

/** Throws the error as the callers of the store are to see it. One without an SQLSTATE comes from the connection. */
export function throwStoreFailure(error: unknown): never {
  const { code, severity, message } = error as { code?: unknown; severity?: unknown; message?: string }
  const fromServer = typeof severity === 'string' && typeof code === 'string'
  if (fromServer && !CANNOT_NOW.test(code)) throw error
  throw new Unavailable(`the store cannot be used: ${message}`, { cause: error })
}
