/**
 * The directory below `tblspc/` of a mount that stands for a tablespace location which only the WAL names. Several
 * tablespaces may have had the same location one after the other, so it is named by that.
 */
import { createHash } from 'node:crypto'

const READABLE = 40

/** @param location absolute path, as PostgreSQL has it */
export function locationDirectory(location: string): string {
  const readable = location.replaceAll(/[^A-Za-z0-9]+/g, '_').slice(-READABLE)
  const digest = createHash('sha256').update(location).digest('hex').slice(0, 16)
  return `at${readable}-${digest}`
}
