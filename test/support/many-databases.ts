/**
 * Owns a pg_basebackup of a cluster with thousands of databases for tests. CREATE DATABASE for each would take hours and
 * dozens of GB, so all are made of one: rows of pg_database name them, and in the backup the files of each are hard links
 * to those of the first. The backup is only read, so nothing of one can be seen in another.
 */
import { createHash } from 'node:crypto'
import { chown, link, mkdir, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCluster, POSTGRES_BIN, postgresAccount, runAs } from './postgres-cluster.ts'

export interface ManyDatabases {
  /** A repository of format `basebackup`, with one instance and one backup. */
  readonly path: string
  readonly instance: string
  /** The name of the database of that number, from 0 on. */
  name(index: number): string
  remove(): Promise<void>
}

const INSTANCE = 'tenants'
const FIRST_OID = 1_000_000

const name = (index: number): string => `tenant_${String(index).padStart(5, '0')}`

/** Each database has the table `orders` with 10 rows, and the database `postgres` is there too. */
export async function makeManyDatabases(count: number): Promise<ManyDatabases> {
  const account = await postgresAccount()
  // Beside each other: hard links do not lead from one file system to another.
  const directory = await mkdtemp(join(tmpdir(), 'howdah-many-databases-'))
  const [production, path] = [join(directory, 'production'), join(directory, 'repository')]
  const backup = join(path, INSTANCE, 'nightly')
  const remove = () => rm(directory, { recursive: true, force: true })
  try {
    for (const made of [directory, production, path, join(path, INSTANCE)]) {
      await mkdir(made, { recursive: true })
      await chown(made, account.uid, account.gid)
    }
    const cluster = await makeCluster({
      directory: production,
      account,
      configuration: 'inside',
      settings: {},
    })
    await cluster.start()
    let first: string
    try {
      await cluster.sql(`CREATE DATABASE ${name(0)}`)
      await cluster.sql(
        'CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 10) i',
        name(0),
      )
      first = await cluster.sql(`SELECT oid FROM pg_database WHERE datname = '${name(0)}'`)
      await cluster.sql(
        `SET allow_system_table_mods = on;
         INSERT INTO pg_database
         SELECT (jsonb_populate_record(known, jsonb_build_object(
                  'oid', ${FIRST_OID} + i, 'datname', 'tenant_' || lpad(i::text, 5, '0')))).*
         FROM pg_database known, generate_series(1, ${count - 1}) i WHERE oid = ${first}`,
      )
      await runAs(account, join(POSTGRES_BIN, 'pg_basebackup'), [
        ...['-D', backup, '-h', cluster.socketDirectory, '-p', String(cluster.port), '-U', cluster.user],
        ...['-c', 'fast', '--no-sync'],
      ])
    } finally {
      await cluster.stop()
    }
    const base = join(backup, 'base')
    const files = await readdir(join(base, first))
    for (let index = 1; index < count; index += 1) {
      const made = join(base, String(FIRST_OID + index))
      await mkdir(made, { mode: 0o700 })
      await Promise.all(files.map((file) => link(join(base, first, file), join(made, file))))
    }
    await listAll(join(backup, 'backup_manifest'), first, count)
    return { path, instance: INSTANCE, name, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/**
 * Lists in a backup_manifest the files of the first database for all the others, too: a line for each, and a checksum over
 * all lines before its own (PostgreSQL documentation, "Backup Manifest Format").
 */
async function listAll(path: string, first: string, count: number): Promise<void> {
  const lines = (await readFile(path, 'utf8')).split('\n')
  const ofFirst = lines.filter((line) => line.includes(`"Path": "base/${first}/`))
  const at = lines.indexOf(ofFirst[0] ?? '')
  const hash = createHash('sha256')
  const file = await open(path, 'w')
  const write = async (text: string): Promise<void> => {
    hash.update(text)
    await file.write(text)
  }
  try {
    await write(`${lines.slice(0, at).join('\n')}\n`)
    for (let index = 1; index < count; index += 1) {
      const base = `base/${FIRST_OID + index}/`
      // The last entry of the file has no comma.
      await write(
        ofFirst.map((line) => `${line.replace(`base/${first}/`, base).replace(/,?$/, ',')}\n`).join(''),
      )
    }
    const rest = lines.slice(at)
    const own = rest.findIndex((line) => line.startsWith('"Manifest-Checksum"'))
    await write(`${rest.slice(0, own).join('\n')}\n`)
    await file.write(`"Manifest-Checksum": "${hash.digest('hex')}"}\n`)
  } finally {
    await file.close()
  }
}
