/** A production with a history: three backups, two timelines, and commits and restore points whose place is known. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createArchiveKnowledge } from '../../agents/mount/recovery/instance-archive.ts'
import { planRecovery, type RecoveryPlan } from '../../agents/mount/recovery/plan-recovery.ts'
import type { Instance, RepositoryOptions } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import type { RecoverTo } from '../../messages/values.ts'
import { openForTest, temporaryDirectory } from '../repository/fixture.ts'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'

export interface Moment {
  /** As PostgreSQL prints it, in UTC with microseconds. */
  readonly time: string
  readonly lsn: string
}

export interface History {
  readonly production: Production
  readonly scratch: string
  /** Labels. */
  readonly first: string
  readonly second: string
  readonly third: string
  /** After a commit between the first and the second backup, with restore point `early`. */
  readonly early: Moment
  /** After the second backup, still on timeline 1, with restore point `late`; the transaction before is `lateXid`. */
  readonly late: Moment
  readonly lateXid: string
  /** On timeline 2, before the third backup. */
  readonly onSecond: Moment
  remove(): Promise<void>
}

export async function makeHistory(): Promise<History> {
  const production = await makeProduction({ settings: { max_prepared_transactions: '4' } })
  const scratch = await temporaryDirectory()
  const remove = async () => {
    await production.remove()
    await rm(scratch, { recursive: true, force: true })
  }
  try {
    const { sql } = production
    const moment = async (): Promise<Moment> => {
      const [time = '', lsn = ''] = (
        await sql('select clock_timestamp(), pg_current_wal_insert_lsn()')
      ).split('|')
      return { time, lsn }
    }
    /** Times of backups are whole seconds. */
    const nextSecond = async () => {
      await sql(
        `select pg_sleep(ceil(extract(epoch from clock_timestamp())) + 0.01 - extract(epoch from clock_timestamp()))`,
      )
    }

    await unusualDatabases(production)
    const first = await production.backup('full')
    await nextSecond()
    await production.writeNotes(10, 'early')
    await sql(`select pg_create_restore_point('early')`)
    const early = await moment()
    await unusualTransactions(production)
    await production.writeNotes(10, 'after early')
    await production.switchWal()
    await nextSecond()
    const second = await production.backup('incr')
    await nextSecond()
    const lateXid = await sql(
      `begin; insert into notes (note) values ('late'); select pg_current_xact_id(); commit;`,
    )
    await sql(`select pg_create_restore_point('late')`)
    const late = await moment()
    await production.writeNotes(10, 'after late')
    await production.switchWal()
    await promote(production)
    await production.writeNotes(10, 'second timeline')
    await sql(`select pg_create_restore_point('on second')`)
    const onSecond = await moment()
    await production.writeNotes(10, 'after')
    await production.switchWal()
    await nextSecond()
    const third = await production.backup('incr')
    await nextSecond()
    await production.writeNotes(1, 'last')
    await production.switchWal()
    return { production, scratch, first, second, third, early, late, lateXid, onSecond, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** Databases whose catalogs are not as `initdb` made them. */
async function unusualDatabases({ sql }: Production): Promise<void> {
  await sql('create database gone')
  await sql(
    `create database "Büro" template template0 locale_provider icu icu_locale 'de-DE' encoding 'UTF8'`,
  )
  await sql('create database apart tablespace archive')
  await sql('drop database gone')
  await sql('create extension citext; create extension hstore; drop extension hstore', 'Büro')
  await sql('create extension citext; vacuum full pg_extension', 'apart')
  await sql('alter database "Büro" rename to "Kontor"')
}

/** Everything that a transaction's end can look like in the WAL. */
async function unusualTransactions({ sql }: Production): Promise<void> {
  await sql(`
    begin; insert into notes (note) values ('prepared'); prepare transaction 'one'; commit prepared 'one';
    begin; insert into notes (note) values ('given up'); prepare transaction 'two'; rollback prepared 'two';
    begin; insert into notes (note) values ('aborted'); rollback;
    do $$ begin for i in 1..3000 loop
      begin insert into notes (note) values ('sub'); exception when others then null; end;
    end loop; end $$;
    do $$ begin for i in 1..50 loop execute format('create table many_%s (n int)', i); end loop; end $$;
    do $$ begin for i in 1..50 loop execute format('drop table many_%s', i); end loop; end $$;
  `)
  // Records that reach over the end of a segment.
  await sql(`insert into notes (note) select repeat('wal ', 400) || i from generate_series(1, 25000) i`)
}

/** To a new timeline, as after a restore: archive recovery in place. */
async function promote(production: Production): Promise<void> {
  const { sql, dataDirectory, configFile, stanza } = production
  await sql(
    `alter system set restore_command = 'pgbackrest --config=${configFile} --stanza=${stanza} archive-get %f "%p"'`,
  )
  await production.stop()
  const signal = join(dataDirectory, 'recovery.signal')
  await writeFile(signal, '')
  await runAs({ ...(await postgresAccount()), uid: process.getuid?.() ?? 0 }, 'chown', [
    '--reference',
    dataDirectory,
    signal,
  ])
  await production.start()
  const deadline = Date.now() + 60_000
  while ((await sql('select pg_is_in_recovery()')) !== 'f') {
    if (Date.now() > deadline) throw new Error('production was not promoted within 60 s')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export interface Planner {
  readonly instance: Instance
  readonly spool: Spool
  plan(recoverTo: RecoverTo, backup?: string): Promise<RecoveryPlan>
}

export async function planner(
  options: string | Omit<RepositoryOptions, 'name'>,
  instanceName: string,
  scratch: string,
): Promise<Planner> {
  const { repository, spool } = openForTest(
    typeof options === 'string' ? { format: 'pgbackrest', path: options } : options,
    scratch,
  )
  const instance = await repository.instance(instanceName)
  const knowledge = createArchiveKnowledge()
  return {
    instance,
    spool,
    plan: (recoverTo, backup = 'latest') =>
      planRecovery(
        { repository: 'main', instance: instanceName, backup, recoverTo },
        instance,
        knowledge,
        Date.now,
      ),
  }
}
