/**
 * The databases of a backup, their locales and extensions, read from its catalogs before a server runs on it. The files
 * were copied at some moment during the backup, and so is this information of about that time.
 */
import type { CatalogSummary } from '../../../messages/steps.ts'
import type { OpenBackup } from '../repository.ts'
import { type IsCommitted, PAGE_BYTES, type Row, readRows } from './heap.ts'
import {
  type CatalogLayouts,
  DEFAULT_TABLESPACE,
  layoutsOf,
  PG_CLASS,
  PG_DATABASE,
  PG_EXTENSION,
} from './layouts.ts'

const DATABASE_PAGES = 256
const EXTENSION_PAGES = 16
const RELATION_PAGES = 512
/** Number of databases whose extensions are read. */
const MAX_DATABASES = 100

const PROVIDERS = { c: 'libc', i: 'icu', b: 'builtin' } as const

/** RELMAPPER_FILEMAGIC of utils/cache/relmapper.c; then i32 count, and pairs of u32 OID and u32 file number. */
const MAP_MAGIC = 0x592717
const MAX_MAPPINGS = 64

/** Pages of pg_xact: two bits for each transaction, 32 pages to a file (access/transam/clog.c, slru.c). */
const XIDS_PER_PAGE = PAGE_BYTES * 4
const PAGES_PER_FILE = 32
const COMMITTED = 1
const ABORTED = 2

/** A database as in the backup's own catalog. */
export interface DatabaseCatalog
  extends Pick<CatalogSummary['locales'][number], 'collate' | 'ctype' | 'provider' | 'collationVersion'> {
  readonly name: string
  /** Missing: not read, since there are many databases, or not readable. */
  readonly extensions?: readonly string[]
}

/** Databases that accept connections. Undefined: they cannot be read in advance, which does not prevent publishing. */
export async function readDatabases(backup: OpenBackup): Promise<DatabaseCatalog[] | undefined> {
  return databases(backup).catch(() => undefined)
}

async function databases(backup: OpenBackup): Promise<DatabaseCatalog[] | undefined> {
  const control = await readFile(backup, 'data/global/pg_control', 16)
  const layouts = control === undefined ? undefined : layoutsOf(control.readUInt32LE(12))
  if (control === undefined || layouts === undefined) return undefined
  const file = await mappedFile(backup, 'data/global', PG_DATABASE)
  const pages = file === undefined ? undefined : await readFile(backup, file, DATABASE_PAGES * PAGE_BYTES)
  if (pages === undefined) return undefined
  const rows = await visibleRows(backup, pages, layouts.database)
  const usable = rows.filter(({ datallowconn }) => datallowconn === true)
  if (usable.length === 0) return undefined
  const version = control.readUInt32LE(12)
  return Promise.all(
    usable.map(async (row, index) => {
      const extensions =
        index < MAX_DATABASES
          ? await readExtensions(backup, layouts, directoryOf(backup, row, version)).catch(() => undefined)
          : undefined
      return summarize(row, extensions)
    }),
  )
}

function summarize(row: Row, extensions: string[] | undefined): DatabaseCatalog {
  const provider =
    row.datlocprovider === undefined ? 'libc' : PROVIDERS[row.datlocprovider as keyof typeof PROVIDERS]
  return {
    name: String(row.datname),
    ...(typeof row.datcollate === 'string' && { collate: row.datcollate }),
    ...(typeof row.datctype === 'string' && { ctype: row.datctype }),
    ...(provider !== undefined && { provider }),
    ...(typeof row.datcollversion === 'string' && { collationVersion: row.datcollversion }),
    ...(extensions && { extensions }),
  }
}

/** In a tablespace other than the default one: `tblspc/<oid>/PG_<major>_<catalog version>/<database>` (common/relpath.h). */
function directoryOf({ summary }: OpenBackup, { oid, dattablespace }: Row, catalogVersion: number): string {
  return dattablespace === DEFAULT_TABLESPACE
    ? `data/base/${oid}`
    : `tblspc/${dattablespace}/PG_${summary.postgresVersion}_${catalogVersion}/${oid}`
}

async function readExtensions(
  backup: OpenBackup,
  layouts: CatalogLayouts,
  directory: string,
): Promise<string[] | undefined> {
  // Its file is named by its OID until VACUUM FULL rewrites it.
  let pages = await readFile(backup, `${directory}/${PG_EXTENSION}`, EXTENSION_PAGES * PAGE_BYTES)
  if (pages === undefined) {
    const file = await rewrittenFile(backup, layouts, directory)
    pages = file === undefined ? undefined : await readFile(backup, file, EXTENSION_PAGES * PAGE_BYTES)
  }
  if (pages === undefined) return undefined
  const rows = await visibleRows(backup, pages, layouts.extension)
  return rows.map(({ extname }) => String(extname)).sort()
}

async function rewrittenFile(
  backup: OpenBackup,
  layouts: CatalogLayouts,
  directory: string,
): Promise<string | undefined> {
  const file = await mappedFile(backup, directory, PG_CLASS)
  const pages = file === undefined ? undefined : await readFile(backup, file, RELATION_PAGES * PAGE_BYTES)
  if (pages === undefined) return undefined
  const rows = await visibleRows(backup, pages, layouts.relation)
  const row = rows.find(({ oid }) => oid === PG_EXTENSION)
  return row === undefined ? undefined : `${directory}/${row.relfilenode}`
}

/** The file of a catalog that pg_filenode.map lists. */
async function mappedFile(backup: OpenBackup, directory: string, oid: number): Promise<string | undefined> {
  const map = await readFile(backup, `${directory}/pg_filenode.map`, 8 + MAX_MAPPINGS * 8)
  if (map === undefined || map.length < 8 || map.readInt32LE(0) !== MAP_MAGIC) return undefined
  const count = Math.min(map.readInt32LE(4), Math.floor((map.length - 8) / 8))
  for (let at = 8; at < 8 + count * 8; at += 8) {
    if (map.readUInt32LE(at) === oid) return `${directory}/${map.readUInt32LE(at + 4)}`
  }
  return undefined
}

async function visibleRows(
  backup: OpenBackup,
  pages: Buffer,
  layout: CatalogLayouts['database'],
): Promise<Row[]> {
  const xids = new Set<number>()
  readRows(pages, layout, (xid) => {
    xids.add(xid)
    return undefined
  })
  const statuses = new Map<number, boolean | undefined>()
  for (const xid of xids) statuses.set(xid, await commitStatusOf(backup, xid))
  const isCommitted: IsCommitted = (xid) => statuses.get(xid)
  return readRows(pages, layout, isCommitted)
}

async function commitStatusOf(backup: OpenBackup, xid: number): Promise<boolean | undefined> {
  const page = Math.floor(xid / XIDS_PER_PAGE)
  const name = Math.floor(page / PAGES_PER_FILE)
    .toString(16)
    .toUpperCase()
    .padStart(4, '0')
  const within = (page % PAGES_PER_FILE) * PAGE_BYTES + Math.floor((xid % XIDS_PER_PAGE) / 4)
  const found = await readFile(backup, `data/pg_xact/${name}`, 1, within)
  const status = found?.[0] === undefined ? 0 : (found[0] >> ((xid % 4) * 2)) & 3
  if (status === COMMITTED) return true
  return status === ABORTED ? false : undefined
}

/** Up to `maxBytes` of a file; undefined when it does not exist or is empty. */
async function readFile(
  backup: OpenBackup,
  path: string,
  maxBytes: number,
  offset = 0,
): Promise<Buffer | undefined> {
  const entry = backup.entry(path)
  if (entry?.file === undefined || offset >= entry.size) return undefined
  return backup.read(entry.file, offset, Math.min(entry.size - offset, maxBytes))
}
