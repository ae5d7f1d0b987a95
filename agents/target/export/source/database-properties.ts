/** Encoding and locale, which a new database must have in common with the one whose contents are restored into it. */

import { literal, quoted } from '../dump/names.ts'
import type { DatabaseSnapshot } from './snapshot.ts'

export interface DatabaseProperties {
  readonly encoding: string
  readonly collate: string | null
  readonly ctype: string | null
  /** `c` libc, `i` ICU, `b` builtin; since version 15. */
  readonly provider: string | null
  /** Of ICU or of the builtin provider. */
  readonly locale: string | null
}

export async function propertiesOf(snapshot: DatabaseSnapshot): Promise<DatabaseProperties> {
  // row_to_json makes columns that a version does not have null instead of an error.
  const [row] = await snapshot.query<{ properties: DatabaseProperties }>(
    `SELECT pg_catalog.json_build_object(
       'encoding', pg_catalog.pg_encoding_to_char((d->>'encoding')::int), 'collate', d->>'datcollate',
       'ctype', d->>'datctype', 'provider', d->>'datlocprovider',
       'locale', coalesce(d->>'datlocale', d->>'daticulocale')) AS properties
     FROM (SELECT pg_catalog.row_to_json(p) AS d FROM pg_catalog.pg_database p
           WHERE datname = pg_catalog.current_database()) AS databases`,
  )
  if (!row) throw new Error('a query for the current database gave no row')
  return row.properties
}

/** Source of the options: CREATE DATABASE in the documentation of 15 and 17. */
export function createDatabaseSql(name: string, properties: DatabaseProperties): string {
  const { encoding, collate, ctype, provider, locale } = properties
  const option = (keyword: string, value: string | null): string =>
    value === null ? '' : ` ${keyword} ${literal(value)}`
  const providers: Readonly<Record<string, string>> = { i: 'icu', b: 'builtin' }
  const other = provider === null ? undefined : providers[provider]
  const providerOptions =
    other === undefined
      ? ''
      : ` LOCALE_PROVIDER ${other}${option(other === 'icu' ? 'ICU_LOCALE' : 'BUILTIN_LOCALE', locale)}`
  return `CREATE DATABASE ${quoted(name)} TEMPLATE template0${option('ENCODING', encoding)}${option('LC_COLLATE', collate)}${option('LC_CTYPE', ctype)}${providerOptions}`
}
