/**
 * Column layouts of the few system catalogs that are read without a server, by catalog version (catalog/catversion.h),
 * for the releases of PostgreSQL 10 to 18. Sources: catalog/pg_database.h, pg_extension.h and pg_class.h of each.
 */

/** `name`: 64 bytes, NUL-terminated. `text`: of variable length. The others have the lengths that they have in C. */
export type ColumnType = 'oid' | 'int4' | 'bool' | 'char' | 'name' | 'text'
/** In their order. */
export type Layout = Readonly<Record<string, ColumnType>>

export interface CatalogLayouts {
  /** Rows have their OID before the data (HEAP_HASOID), and not as a column. */
  readonly hiddenOid: boolean
  readonly database: Layout
  readonly extension: Layout
  /** Only the first columns. */
  readonly relation: Layout
}

/** OIDs of the catalogs themselves (the CATALOG lines of their headers). */
export const PG_DATABASE = 1262
export const PG_CLASS = 1259
export const PG_EXTENSION = 3079
/** pg_default (catalog/pg_tablespace.dat): what is in `base`. */
export const DEFAULT_TABLESPACE = 1663

const oid: Layout = { oid: 'oid' }
const databaseHead: Layout = { datname: 'name', datdba: 'oid', encoding: 'int4' }
const horizons: Layout = { datfrozenxid: 'oid', datminmxid: 'oid', dattablespace: 'oid' }

const database10: Layout = {
  ...databaseHead,
  datcollate: 'name',
  datctype: 'name',
  datistemplate: 'bool',
  datallowconn: 'bool',
  datconnlimit: 'int4',
  datlastsysoid: 'oid',
  ...horizons,
}
const database15Head: Layout = {
  ...oid,
  ...databaseHead,
  datlocprovider: 'char',
  datistemplate: 'bool',
  datallowconn: 'bool',
}
const database15: Layout = {
  ...database15Head,
  datconnlimit: 'int4',
  ...horizons,
  datcollate: 'text',
  datctype: 'text',
  daticulocale: 'text',
  datcollversion: 'text',
}
const database16: Layout = {
  ...database15Head,
  datconnlimit: 'int4',
  ...horizons,
  datcollate: 'text',
  datctype: 'text',
  daticulocale: 'text',
  daticurules: 'text',
  datcollversion: 'text',
}
const database17: Layout = {
  ...database15Head,
  dathasloginevt: 'bool',
  datconnlimit: 'int4',
  ...horizons,
  datcollate: 'text',
  datctype: 'text',
  datlocale: 'text',
  daticurules: 'text',
  datcollversion: 'text',
}

const relation: Layout = {
  relname: 'name',
  relnamespace: 'oid',
  reltype: 'oid',
  reloftype: 'oid',
  relowner: 'oid',
  relam: 'oid',
  relfilenode: 'oid',
}
const extension: Layout = { extname: 'name' }

const withHiddenOid: CatalogLayouts = { hiddenOid: true, database: database10, extension, relation }
const withOid = (database: Layout): CatalogLayouts => ({
  hiddenOid: false,
  database,
  extension: { ...oid, ...extension },
  relation: { ...oid, ...relation },
})
const from12 = withOid({ ...oid, ...database10 })
const from17 = withOid(database17)

const LAYOUTS: Readonly<Record<number, CatalogLayouts>> = {
  201707211: withHiddenOid, // 10
  201809051: withHiddenOid, // 11
  201909212: from12, // 12
  202007201: from12, // 13
  202107181: from12, // 14
  202209061: withOid(database15), // 15
  202307071: withOid(database16), // 16
  202406281: from17, // 17
  202506291: from17, // 18
}

/** Undefined for an unknown version, such as a beta or a fork. */
export const layoutsOf = (catalogVersion: number): CatalogLayouts | undefined => LAYOUTS[catalogVersion]
