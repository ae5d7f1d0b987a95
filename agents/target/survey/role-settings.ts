/** Finds libraries that roles or databases preload into each session and this machine lacks: their sessions are refused. */
import type pg from 'pg'

export interface MissingLibrary {
  /** Undefined: all of them. */
  readonly role: string | undefined
  /** Undefined: all of them. */
  readonly database: string | undefined
  readonly library: string
}

interface Row {
  readonly role: string | null
  readonly database: string | null
  readonly libraries: string
  readonly plugins: boolean
}

const QUERY = `
  SELECT r.rolname::text AS role, d.datname::text AS database, (o.option LIKE 'local_%') AS plugins,
         substr(o.option, strpos(o.option, '=') + 1) AS libraries
    FROM pg_catalog.pg_db_role_setting s
    CROSS JOIN LATERAL unnest(s.setconfig) AS o (option)
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
   WHERE o.option LIKE 'session_preload_libraries=%' OR o.option LIKE 'local_preload_libraries=%'
   ORDER BY 1, 2`

/** The directories in which the server searches for libraries; the view exists since 9.6. */
const LIBRARY_PATHS = `
  SELECT (SELECT setting FROM pg_catalog.pg_config WHERE name = 'PKGLIBDIR') AS directory,
         pg_catalog.current_setting('dynamic_library_path') AS path`

/** @throws the error of a query */
export async function missingLibraries(client: pg.Client): Promise<MissingLibrary[]> {
  const { rows } = await client.query<Row>(QUERY)
  if (rows.length === 0) return []
  const [paths] = (await client.query<{ directory: string | null; path: string }>(LIBRARY_PATHS)).rows
  // Other directories of a search path cannot be examined from here.
  if (!paths?.directory || paths.path !== '$libdir') return []
  const missing: MissingLibrary[] = []
  for (const { role, database, libraries, plugins } of rows)
    for (const library of libraryNames(libraries))
      if (!(await libraryExists(client, pathOf(library, paths.directory, plugins))))
        missing.push({ role: role ?? undefined, database: database ?? undefined, library })
  return missing
}

/** Parses a list setting: names separated by commas, in double quotes where necessary. */
function libraryNames(list: string): string[] {
  return Array.from(list.matchAll(/"((?:[^"]|"")*)"|[^,\s"]+/g), ([whole, quoted]) =>
    (quoted ?? whole).replaceAll('""', '"'),
  ).filter((name) => name !== '')
}

/** PostgreSQL documentation, "Shared Library Preloading": local_preload_libraries are in the directory `plugins`. */
function pathOf(library: string, directory: string, plugins: boolean): string {
  if (library.startsWith('/')) return library
  const name = library.replace(/^\$libdir\//, '')
  return plugins && !library.includes('/') ? `${directory}/plugins/${name}` : `${directory}/${name}`
}

async function libraryExists(client: pg.Client, path: string): Promise<boolean> {
  const { rows } = await client.query<{ found: boolean }>(
    `SELECT (pg_catalog.pg_stat_file($1, true)).size IS NOT NULL OR (pg_catalog.pg_stat_file($1 || '.so', true)).size IS NOT NULL AS found`,
    [path],
  )
  return rows[0]?.found === true
}
