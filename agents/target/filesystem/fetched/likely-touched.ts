/**
 * Predicts the blocks a start of PostgreSQL touches from the record of another start: catalogs of all databases and
 * clusters have the same layout. Blocks that a backup does not have are omitted later.
 */
import { readdir, stat } from 'node:fs/promises'
import { type BaseTree, ROOT } from '../tree/base-tree.ts'
import { loadTouchedFile, type TouchedRecord } from './touched-record.ts'

/** Relations created by initdb have OIDs below this (src/include/access/transam.h, FirstNormalObjectId). */
const FIRST_NORMAL_OBJECT = 16_384
/** Each takes about 2 MB. */
const MAX_DATABASES = 8

/** The newest record of any instance below `root`; undefined when there is none. */
export async function newestTouched(root: string): Promise<TouchedRecord | undefined> {
  const names = await readdir(root).catch(() => [])
  const records = await Promise.all(
    names
      .filter((name) => name.endsWith('.touched.json'))
      .map(async (name) => ({ path: `${root}/${name}`, time: await modified(`${root}/${name}`) })),
  )
  const newest = records.sort((a, b) => b.time - a.time)[0]
  return newest && loadTouchedFile(newest.path)
}

/**
 * The record, followed by the same system catalogs in those of `databases` that it does not cover: clients are likely to
 * connect to one of these.
 */
export function withOtherDatabases(record: TouchedRecord, databases: readonly string[]): TouchedRecord {
  const names = record.paths.map(catalogOf)
  const model = names.find((name) => name !== undefined)?.database
  const known = new Set(names.map((name) => name?.database))
  const paths = [...record.paths]
  const ranges = [...record.ranges]
  for (const database of databases.filter((name) => !known.has(name)).slice(-MAX_DATABASES)) {
    const moved = new Map<number, number>()
    for (const [index, name] of names.entries()) {
      if (name !== undefined && name.database === model)
        moved.set(index, paths.push(`data/base/${database}/${name.file}`) - 1)
    }
    for (let at = 0; at + 2 < record.ranges.length; at += 3) {
      const index = moved.get(record.ranges[at] ?? -1)
      if (index !== undefined) ranges.push(index, record.ranges[at + 1] ?? 0, record.ranges[at + 2] ?? 0)
    }
  }
  return { version: 1, paths, ranges }
}

/** A file that every database has, such as a system catalog; undefined: a user's relation, or not in a database. */
function catalogOf(path: string): { readonly database: string; readonly file: string } | undefined {
  const [, database, file] = /^data\/base\/(\d+)\/([^/]+)$/.exec(path) ?? []
  if (database === undefined || file === undefined) return undefined
  return Number.parseInt(file, 10) >= FIRST_NORMAL_OBJECT ? undefined : { database, file }
}

/** Names of the directories of databases that were created after initdb, in the order of their OIDs. */
export function laterDatabases(tree: BaseTree): string[] {
  const base = ['data', 'base'].reduce((at, name) => (at === 0 ? 0 : tree.lookup(at, name)), ROOT)
  if (base === 0) return []
  return [...tree.entries(base)]
    .map(([name]) => name)
    .filter((name) => Number(name) >= FIRST_NORMAL_OBJECT)
    .sort((a, b) => Number(a) - Number(b))
}

async function modified(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
}
