/** Whatever roles and databases of the backup are like, Howdah gets in, and its own connections work as ever. */
import { globSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import pg from 'pg'
import { observe } from '../../agents/target/changes/observe.ts'
import { createPrograms } from '../../agents/target/export/dump/programs.ts'
import { chooseDatabases } from '../../agents/target/export/source/choose-databases.ts'
import { instancePrograms } from '../../agents/target/export/source/instance-programs.ts'
import { openSnapshot } from '../../agents/target/export/source/snapshot.ts'
import {
  type InstanceAddress,
  withAnyDatabase,
} from '../../agents/target/postgres/connections/instance-client.ts'
import { sessionOptions } from '../../agents/target/postgres/connections/session-settings.ts'
import { startInstance } from '../../agents/target/postgres/instance.ts'
import { stopInstance } from '../../agents/target/postgres/process/stop.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import type { HowdahError } from '../../messages/errors.ts'
import type { RecoverResult } from '../../messages/steps.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from './backup.ts'

/** What a role or a database may have set, each to something that a client that relies on the default trips over. */
const HOSTILE: Readonly<Record<string, string>> = {
  session_preload_libraries: 'no_such_library',
  local_preload_libraries: 'no_such_library',
  role: 'nobody_special',
  default_transaction_isolation: 'serializable',
  default_transaction_read_only: 'on',
  default_transaction_deferrable: 'on',
  statement_timeout: '1ms',
  lock_timeout: '1ms',
  idle_in_transaction_session_timeout: '1ms',
  idle_session_timeout: '1ms',
  exit_on_error: 'on',
  temp_file_limit: '0',
  DateStyle: 'German',
  IntervalStyle: 'iso_8601',
  TimeZone: 'Asia/Kathmandu',
  extra_float_digits: '-3',
  bytea_output: 'escape',
  standard_conforming_strings: 'off',
  quote_all_identifiers: 'on',
  client_min_messages: 'debug1',
  client_encoding: 'LATIN1',
  search_path: 'app, evil, pg_catalog',
  session_replication_role: 'replica',
  row_security: 'on',
}

/** Names that come before those of pg_catalog by that search path. */
const EVIL = `
  CREATE SCHEMA evil;
  CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE 'evil'; END$$;
  CREATE FUNCTION evil.boom(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'evil'; END$$;
  CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.boom);
  CREATE VIEW evil.pg_class AS SELECT 1 AS nothing;
  CREATE VIEW evil.pg_database AS SELECT 1 AS nothing;
  CREATE VIEW evil.pg_stat_database AS SELECT 1 AS nothing;
  CREATE VIEW evil.pg_subscription AS SELECT 1 AS nothing`

/** The data directory of these tests is a plain one, without a mount. */
const syncMount = async (): Promise<void> => undefined
const start = (spec: InstanceSpec) => startInstance(spec, { logger, syncMount, timeoutMs: 20_000 })

function addressOf(spec: InstanceSpec, { connection }: RecoverResult): InstanceAddress {
  const { socketDirectory, port, user, database = 'postgres' } = connection
  return { instance: spec, socketDirectory, port, user, database }
}

async function failure(work: Promise<unknown>): Promise<HowdahError> {
  const error = await work.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  )
  return error as HowdahError
}

describe("Howdah's own connections", function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined

  before(async () => {
    const settings = Object.entries(HOSTILE)
    const database = (name: string) => [
      ...settings.map(
        ([key, value]) =>
          `ALTER DATABASE ${name} SET ${key} = ${value
            .split(', ')
            .map((part) => `'${part}'`)
            .join(', ')}`,
      ),
    ]
    backup = await makeBackup({
      superuser: 'keeper',
      settings: { fsync: 'on', max_prepared_transactions: '5' },
      before: [
        'CREATE ROLE postgres SUPERUSER LOGIN; CREATE ROLE nobody_special; CREATE DATABASE app',
        EVIL,
        `\\c app keeper\n${EVIL}; CREATE SCHEMA app; CREATE TABLE app.orders AS SELECT 1 AS id, now() AS at, 0.1::float8 + 0.2 AS f, 'é' AS e`,
        // Role and database together rank highest, and leave the cluster's own superuser alone.
        ...database('app'),
        ...settings.map(
          ([key, value]) =>
            `ALTER ROLE postgres IN DATABASE postgres SET ${key} = ${value
              .split(', ')
              .map((part) => `'${part}'`)
              .join(', ')}`,
        ),
        `ALTER ROLE postgres SET default_transaction_isolation = 'serializable'`,
      ],
      after: async (cluster) => {
        await cluster.sql("SELECT pg_create_restore_point('first')")
        await cluster.sql('INSERT INTO t VALUES (-1)')
        await cluster.sql("SELECT pg_create_restore_point('second')")
      },
    })
  })
  afterEach(async () => {
    await published?.remove()
    published = undefined
  })
  after(() => backup?.remove())

  it('work in every phase whatever a role or a database has set', async () => {
    const mounted = await mountCopy(backup, { type: 'name', value: 'second' }, { afterRecovery: 'pause' })
    published = mounted
    const { spec } = mounted
    const paused = await start(spec)
    expect(paused.connection).to.include({ user: 'postgres' })
    expect(paused.paused?.lastCommit).to.match(/^\d{4}-\d\d-\d\dT/)
    const behind = await failure(
      start({ ...spec, recoverTo: { type: 'time', value: '2020-01-01T00:00:00Z' } }),
    )
    expect(behind.message).to.include('lies behind')
    const result = await start({ ...spec, recoverTo: { type: 'latest' }, afterRecovery: 'promote' })
    const address = addressOf(spec, result)
    expect((await observe(address))?.databases.has('app')).to.equal(true)
    await withAnyDatabase(address, (client) => client.query('CREATE TABLE public.made_by_howdah ()'))
    const chosen = await chooseDatabases(
      address,
      { tables: ['orders'], destination: { type: 'directory', path: '/nowhere' } },
      async () => ({ changed: false, databases: [] }),
    )
    expect(chosen).to.deep.equal({ databases: ['app'], notes: [] })
  })

  it('dump a database unchanged, whatever it has set', async () => {
    published = await mountCopy(backup)
    const { spec } = published
    const address = addressOf(spec, await start(spec))
    const signal = AbortSignal.timeout(30_000)
    const snapshot = await openSnapshot(address, 'app', ['orders'], signal)
    try {
      expect(Date.now() - Date.parse(snapshot.at)).to.be.within(-5_000, 60_000)
      const [orders] = snapshot.tables
      expect(orders).to.include({ schema: 'app', name: 'orders' })
      expect(orders && (await snapshot.count(orders))).to.equal(1)
      const programs = createPrograms({ session: spec, signal })
      const dump = instancePrograms(programs, address).dump('app', snapshot.encoding, [
        ...['-Fp', '-t', 'orders', `--snapshot=${snapshot.id}`],
      ])
      let text = ''
      for await (const chunk of dump.stdout) text += String(chunk)
      await dump.done
      expect(text).to.include('CREATE TABLE app.orders')
      expect(text).to.match(/^1\t\d{4}-\d\d-\d\d .*\+00\t0\.30000000000000004\té$/m)
    } finally {
      await snapshot.close()
    }
  })

  it('are opened in one file only', () => {
    const root = join(import.meta.dirname, '../..')
    const makers = globSync('agents/target/**/*.ts', { cwd: root }).filter((file) =>
      readFileSync(join(root, file), 'utf8').includes('new pg.Client('),
    )
    expect(makers).to.deep.equal(['agents/target/postgres/connections/client.ts'])
  })

  it("send only settings that the server's version has", () => {
    expect(sessionOptions(17)).to.include('-c event_triggers=off').and.include('-c transaction_timeout=0')
    for (const name of [
      'event_triggers',
      'transaction_timeout',
      'idle_session_timeout',
      'jit',
      'default_table_access_method',
    ])
      expect(sessionOptions(9.6)).not.to.include(name)
    expect(sessionOptions(17, { ordinary: true })).not.to.match(/event_triggers|session_preload|lc_messages/)
    expect(sessionOptions(16)).to.include('-c default_transaction_isolation=read\\ committed')
    expect(sessionOptions(16, { searchPath: 'of the database' })).not.to.include('search_path')
  })
})

describe('An instance whose superuser is not called postgres', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined

  before(async () => {
    backup = await makeBackup({
      superuser: 'Shop Admin',
      settings: { fsync: 'on' },
      before: [
        "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'old secret'",
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE new LOGIN PASSWORD 'new secret'",
        'CREATE ROLE postgres LOGIN; CREATE ROLE other SUPERUSER NOLOGIN; CREATE DATABASE "Laden=1"',
        `UPDATE pg_database SET datallowconn = false WHERE datname = 'template1'`,
      ],
      after: async (cluster) => {
        await cluster.sql(
          `CREATE ROLE second SUPERUSER LOGIN;
           \\connect postgres second
           ALTER ROLE "Shop Admin" RENAME TO third;
           DO $$BEGIN PERFORM pg_create_restore_point('renamed'); END$$;
           ALTER ROLE third RENAME TO "Shop Admin";
           \\connect postgres "Shop Admin"
           DROP ROLE second`,
        )
      },
    })
  })
  afterEach(async () => {
    await published?.remove()
    published = undefined
  })
  after(() => backup?.remove())

  const publish = async (changes: Partial<InstanceSpec> = {}): Promise<Published> => {
    published = await mountCopy(backup, undefined, changes)
    return published
  }

  it('accepts that one in every phase, and reports it', async () => {
    const { spec } = await publish({ afterRecovery: 'pause', recoverTo: { type: 'immediate' } })
    expect((await start(spec)).connection.user).to.equal('Shop Admin')
    const promoted = await start({ ...spec, afterRecovery: 'promote' })
    expect(promoted.connection).to.include({ user: 'Shop Admin' }).and.not.have.property('database')
    expect((await observe(addressOf(spec, promoted)))?.databases.has('Laden=1')).to.equal(true)
  })

  it('accepts roles over TCP by their passwords, however these are stored', async () => {
    const { spec } = await publish()
    await start(spec)
    const enter = async (user: string, password: string): Promise<string> => {
      const client = new pg.Client({
        host: '127.0.0.1',
        port: spec.port,
        user,
        password,
        database: 'postgres',
      })
      try {
        await client.connect()
        return (await client.query<{ user: string }>('SELECT current_user AS user')).rows[0]?.user ?? ''
      } finally {
        await client.end().catch(() => undefined)
      }
    }
    expect(await enter('old', 'old secret')).to.equal('old')
    expect(await enter('new', 'new secret')).to.equal('new')
    expect((await failure(enter('old', 'wrong'))).message).to.include('authentication failed')
  })

  it('is used through the superuser that the request names', async () => {
    const { spec, sql } = await publish({ superuser: 'chosen' })
    await start(spec)
    await sql('CREATE ROLE chosen SUPERUSER LOGIN', 'Shop Admin')
    await rm(`${spec.cachePath}/conf/postgres.json`)
    expect((await start(spec)).connection.user).to.equal('chosen')
  })

  for (const [what, change] of [
    ['is closed', 'datallowconn = false'],
    ['is invalid', 'datconnlimit = -2'],
    ['has a locale that is not here', "datcollate = 'xx_XX.UTF-8', datctype = 'xx_XX.UTF-8'"],
  ] as const)
    it(`is used through another database where postgres ${what}`, async () => {
      const { spec, sql } = await publish()
      await start(spec)
      await sql(`UPDATE pg_database SET ${change} WHERE datname = 'postgres'; CHECKPOINT`, 'Shop Admin')
      await rm(`${spec.cachePath}/conf/postgres.json`)
      const result = await start(spec)
      expect(result.connection).to.include({ user: 'Shop Admin', database: 'Laden=1' })
      expect(await withAnyDatabase(addressOf(spec, result), async (_, { database }) => database)).to.equal(
        'Laden=1',
      )
    })

  it('is used through a superuser that only the WAL has, as long as any role of the backup may log in', async () => {
    const { spec } = await publish({
      recoverTo: { type: 'name', value: 'renamed' },
      afterRecovery: 'pause',
    })
    expect((await start(spec)).connection.user).to.be.oneOf(['second', 'third'])
  })

  it('is used through another superuser once the known one has lost that right', async () => {
    const { spec, sql } = await publish()
    const address = addressOf(spec, await start(spec))
    await sql('CREATE ROLE second SUPERUSER LOGIN', 'Shop Admin')
    await sql('ALTER ROLE "Shop Admin" RENAME TO third; ALTER ROLE third NOLOGIN; CHECKPOINT', 'second')
    expect(await withAnyDatabase(address, async (_, { user }) => user)).to.equal('second')
  })

  it('is used through a member of a superuser where no superuser may log in', async () => {
    const { spec, sql } = await publish()
    await start(spec)
    await sql('GRANT other TO old; ALTER ROLE "Shop Admin" NOLOGIN; CHECKPOINT', 'Shop Admin')
    await rm(`${spec.cachePath}/conf/postgres.json`)
    const result = await start(spec)
    expect(result.connection).to.include({ user: 'old', role: 'other' })
    const address = { ...addressOf(spec, result), role: result.connection.role }
    expect((await observe(address))?.databases.has('Laden=1')).to.equal(true)
    const signal = AbortSignal.timeout(30_000)
    const programs = instancePrograms(createPrograms({ session: spec, signal }), address)
    const dump = programs.dump('postgres', 'UTF8', ['-Fp', '-t', 't', '--schema-only'])
    dump.stdout.resume()
    await dump.done
  })

  it('fails at once, with the reason, when no superuser may log in', async () => {
    const { spec, sql } = await publish()
    await start(spec)
    await sql(`ALTER ROLE "Shop Admin" NOLOGIN; CHECKPOINT`, 'Shop Admin')
    await rm(`${spec.cachePath}/conf/postgres.json`)
    const began = Date.now()
    const error = await failure(start(spec))
    expect(error).to.include({ code: 'postgres_failed' })
    expect(error.message)
      .to.include('No superuser of the instance is let in')
      .and.include('role "Shop Admin" is not permitted to log in')
      .and.include('role "postgres" is no superuser')
    expect(Date.now() - began).to.be.below(10_000)
    await stopInstance(spec, { logger, mode: 'immediate' })
  })
})
