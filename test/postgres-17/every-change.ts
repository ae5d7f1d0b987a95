/** A history between whose backups relations and databases change in every way that incremental backups know. */
import type { Cluster } from '../support/postgres-cluster.ts'
import { DATABASE, type History } from './chain.ts'

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

/** All tables that are logged, with counts and sums of their rows. */
const ALL_ROWS = `SELECT string_agg(relname || ':' || (xpath('/row/sum/text()', query_to_xml(
    format('SELECT count(*) || $$:$$ || coalesce(sum(hashtext(t::text)), 0) AS sum FROM %I t', relname), false, true, '')))[1]::text,
    ' ' ORDER BY relname COLLATE "C")
  FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relpersistence = 'p'`

export const EVERY_CHANGE: History = { fill, changes: [firstChanges, secondChanges], select: ALL_ROWS }
