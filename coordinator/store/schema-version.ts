/** The version of the schema that both stores have, and what a program does about another one. */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { HowdahError } from '../../messages/errors.ts'

/** Version 1 is the one that did not say so. */
export const SCHEMA_VERSION = 4

/** The migrations to run, by the version that each leads to. @throws HowdahError `configuration` when the store is newer than this program */
export function pendingMigrations(found: number, key: 'store.path' | 'store.url'): number[] {
  if (found > SCHEMA_VERSION) {
    throw new HowdahError(
      'configuration',
      `${key}: this store belongs to a newer release of Howdah (its schema has version ${found}, this program knows ${SCHEMA_VERSION}); upgrade this program`,
    )
  }
  return Array.from({ length: SCHEMA_VERSION - found }, (_, index) => found + index + 1)
}

/** An id for a new store that tells an operator which one it is: made by which host, and when. */
export function newStoreId(): string {
  const host = hostname()
    .replace(/[^A-Za-z0-9.-]/g, '')
    .slice(0, 60)
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  return `${host}-${time}-${randomBytes(4).toString('hex')}`
}
