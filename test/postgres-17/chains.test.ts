/** Chains of incremental backups as pg_basebackup takes them, each compared with what pg_combinebackup makes of it. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, parse } from 'node:path'
import { expect } from 'chai'
import { conforms } from '../repository/conformance.ts'
import type { Cluster } from '../support/postgres-cluster.ts'
import { type Chains, DATABASE, type Form, INSTANCE, type Label, makeChains, PLAIN, walOf } from './chain.ts'

const FORMS: Readonly<Record<string, Form>> = {
  plain: PLAIN,
  tar: ['-Ft', '-X', 'fetch'],
  'tar-gz': ['-Ft', '--compress=client-gzip:1'],
  'tar-zst': ['-Ft', '--compress=server-zstd:1'],
  'tar-lz4': ['-Ft', '--compress=server-lz4'],
}
const COMBINED: readonly (readonly [form: string, label: Label])[] = [
  ['plain', 'monday'],
  ['plain', 'tuesday'],
  ['tar', 'tuesday'],
  ['tar-gz', 'tuesday'],
  ['tar-zst', 'monday'],
  ['tar-lz4', 'tuesday'],
]

describe('a chain of incremental backups', function () {
  this.timeout(180_000)
  let made: Chains

  before(async () => {
    made = await makeChains(FORMS, {
      fill,
      changes: [firstChanges, secondChanges],
      select: 'SELECT count(*) FROM steady',
    })
  })
  after(() => made?.remove())

  for (const [form, label] of COMBINED) {
    conforms(`${form}, ${label}`, async () => {
      const chain = made.chains.get(form)
      if (chain === undefined) throw new Error(`there is no chain ${form}`)
      const combined = await made.combine(chain, label)
      const hasOwnWal = form === 'plain' || form === 'tar'
      return {
        ...{ format: 'basebackup', repository: chain.repository, instance: INSTANCE, label },
        ...combined,
        ...(await walOf(combined)),
        // Its manifest is of the result; archives have WAL, or a map of tablespaces, beside the data.
        ignored: ['data/backup_manifest', 'data/tablespace_map', ...(hasOwnWal ? [] : ['data/pg_wal/'])],
        keepsTimes: false,
      }
    })
  }

  it('has files that grew, shrank, changed within and did not change, since the full backup and since the one before', async () => {
    const home = join(made.chains.get('plain')?.repository ?? '', INSTANCE)
    const found = new Set<string>()
    for (const path of await readdir(join(home, 'tuesday/base'), { recursive: true })) {
      const { dir, base } = parse(path)
      if (!base.startsWith('INCREMENTAL.')) continue
      const own = await readFile(join(home, 'tuesday/base', path))
      const full = await stat(join(home, 'full/base', dir, base.slice('INCREMENTAL.'.length))).catch(
        () => undefined,
      )
      const since = full === undefined ? 'of a file of monday' : `of a file of ${size(own, full.size)} blocks`
      found.add(`${own.readUInt32LE(4) === 0 ? 'no blocks' : 'blocks'} ${since}`)
    }
    expect([...found]).to.include.members([
      'no blocks of a file of as many blocks',
      'no blocks of a file of fewer blocks',
      'blocks of a file of as many blocks',
      'blocks of a file of fewer blocks',
      'blocks of a file of more blocks',
    ])
  })
})

/** How many blocks the full file has, compared with the one that the incremental file stands for. */
function size(incremental: Buffer, fullBytes: number): string {
  const [count, truncation] = [incremental.readUInt32LE(4), incremental.readUInt32LE(8)]
  const last = count === 0 ? -1 : incremental.readUInt32LE(12 + (count - 1) * 4)
  const difference = fullBytes / 8192 - Math.max(truncation, last + 1)
  return difference === 0 ? 'as many' : difference < 0 ? 'fewer' : 'more'
}

const rows = (from: number, to: number) =>
  `SELECT i, repeat(md5(i::text), 4) AS t FROM generate_series(${from}, ${to}) i`

async function fill(cluster: Cluster, tablespace: string): Promise<void> {
  await cluster.sql(`CREATE TABLESPACE elsewhere LOCATION '${tablespace}'`)
  await cluster.sql('CREATE DATABASE doomed')
  await cluster.sql('CREATE TABLE lost AS SELECT generate_series(1, 1000) AS i', 'doomed')
  for (const table of ['steady', 'updated', 'grown', 'cut', 'dropped', 'emptied', 'rewritten', 'moved']) {
    await cluster.sql(`CREATE TABLE ${table} AS ${rows(1, 5000)}; CREATE INDEX ON ${table} (i)`, DATABASE)
  }
  await cluster.sql(
    `CREATE TABLE far (i int, t text) TABLESPACE elsewhere;
     INSERT INTO far ${rows(1, 5000)};
     CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 1000) AS i;
     CREATE TABLE large AS SELECT i, string_agg(md5((i * j)::text), '') AS body FROM generate_series(1, 30) i, generate_series(1, 400) j GROUP BY i;
     CREATE SEQUENCE numbers;
     VACUUM`,
    DATABASE,
  )
}

async function firstChanges(cluster: Cluster): Promise<void> {
  await cluster.sql(
    `UPDATE updated SET i = -i WHERE i % 1000 = 0;
     INSERT INTO grown ${rows(5001, 9000)};
     DELETE FROM cut WHERE i > 1000;
     DROP TABLE dropped;
     TRUNCATE emptied;
     INSERT INTO far ${rows(5001, 6000)};
     CREATE TABLE born AS SELECT generate_series(1, 3000) AS i;
     INSERT INTO unlogged SELECT generate_series(1001, 3000);
     SELECT nextval('numbers') FROM generate_series(1, 100) \\g /dev/null
     DELETE FROM large WHERE i % 2 = 0`,
    DATABASE,
  )
  // Gives the blocks at the end back.
  await cluster.sql('VACUUM cut', DATABASE)
  await cluster.sql('VACUUM FULL rewritten', DATABASE)
  await cluster.sql('CREATE DATABASE copied STRATEGY file_copy')
  await cluster.sql('CREATE DATABASE logged STRATEGY wal_log')
  await cluster.sql('CREATE TABLE inside AS SELECT generate_series(1, 1000) AS i', 'logged')
}

async function secondChanges(cluster: Cluster): Promise<void> {
  await cluster.sql(
    `UPDATE updated SET i = i + 1 WHERE i % 77 = 0;
     INSERT INTO cut ${rows(1001, 4000)};
     INSERT INTO emptied ${rows(1, 100)};
     DELETE FROM far WHERE i > 100;
     ALTER TABLE moved SET TABLESPACE elsewhere;
     DROP TABLE born;
     UPDATE large SET body = body || body`,
    DATABASE,
  )
  await cluster.sql('VACUUM far, grown', DATABASE)
  await cluster.sql('DROP DATABASE doomed')
  await cluster.sql('DROP TABLE inside', 'logged')
  await cluster.sql('CREATE TABLE again AS SELECT generate_series(1, 1000) AS i', 'logged')
}
