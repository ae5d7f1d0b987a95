/**
 * The directory below `tblspc/` of a mount that replaces a tablespace location named only in the WAL. It is named after the
 * location rather than the OID: several tablespaces may have had the same location in succession.
 */
import { createHash } from 'node:crypto'

const READABLE = 40

/** @param location absolute path, as PostgreSQL has it */
export function locationDirectory(location: string): string {
  const readable = location.replaceAll(/[^A-Za-z0-9]+/g, '_').slice(-READABLE)
  const digest = createHash('sha256').update(location).digest('hex').slice(0, 16)
  return `at${readable}-${digest}`
}
