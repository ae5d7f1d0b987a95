/**
 * The catalog of a cluster in sum, as it travels in messages: one entry for each locale and each extension, however many
 * databases have it. Its size is bounded. Pure.
 */
import type { CatalogSummary } from '../../../messages/steps.ts'
import type { DatabaseCatalog } from './databases.ts'

/** Databases that an entry names. */
const NAMED = 5
const MAX_LOCALES = 100
const MAX_EXTENSIONS = 200

export function summarizeCatalog(databases: readonly DatabaseCatalog[]): CatalogSummary {
  const locales = grouped(databases, ({ name, extensions: _, ...locale }) => [
    [JSON.stringify(locale), locale],
  ])
  const extensions = grouped(databases, ({ extensions = [] }) => extensions.map((name) => [name, { name }]))
  const omitted = Math.max(0, locales.length - MAX_LOCALES) + Math.max(0, extensions.length - MAX_EXTENSIONS)
  return {
    databases: databases.length,
    locales: locales.slice(0, MAX_LOCALES),
    extensions: extensions.slice(0, MAX_EXTENSIONS),
    ...(omitted > 0 && { omitted }),
  }
}

interface Users {
  databases: number
  named: string[]
}

/** One entry for each key, with the databases that have it; the most frequent first. */
function grouped<T extends object>(
  databases: readonly DatabaseCatalog[],
  keysOf: (database: DatabaseCatalog) => [string, T][],
): (T & Users)[] {
  const groups = new Map<string, T & Users>()
  for (const database of databases) {
    for (const [key, value] of keysOf(database)) {
      const group = groups.get(key) ?? { ...value, databases: 0, named: [] }
      groups.set(key, group)
      group.databases += 1
      if (group.named.length < NAMED) group.named.push(database.name)
    }
  }
  return [...groups.values()].sort((a, b) => b.databases - a.databases)
}
