/** A published instance reaches neither other servers nor other files, whatever its backup contains. */
import { existsSync } from 'node:fs'
import { chown, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'chai'
import { tableName } from '../../agents/target/isolation/network-rules.ts'
import { applyRules, listTables } from '../../agents/target/isolation/nft.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { PLANTED } from '../support/secrets.ts'

/** A server that counts connections. */
interface Listener {
  readonly port: number
  connections: number
  close(): Promise<void>
}

async function listenAt(where: { readonly host: string } | { readonly path: string }): Promise<Listener> {
  const server: Server = createServer((socket) => {
    listener.connections++
    socket.destroy()
  })
  await new Promise<void>((resolve) =>
    'path' in where ? server.listen(where.path, resolve) : server.listen(0, where.host, resolve),
  )
  const address = server.address()
  const listener: Listener = {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    connections: 0,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
  return listener
}

describe('the isolation of a published instance', function () {
  this.timeout(180_000)
  let production: Production
  let fleet: Fleet
  let session: SessionView
  let listener: Listener
  let socketListener: Listener
  let listeners: Listener[]
  let outside: string
  let socketDirectory: string
  let failed = false

  before(async () => {
    listener = await listenAt({ host: '127.0.0.1' })
    const account = await postgresAccount()
    production = await makeProduction({ tablespace: false, settings: { wal_level: 'logical' } })
    outside = path.join(production.directory, 'outside')
    await mkdir(outside)
    await chown(outside, account.uid, account.gid)
    socketDirectory = await mkdtemp('/tmp/howdah-isolation-')
    await chown(socketDirectory, account.uid, account.gid)
    socketListener = await listenAt({ path: `${socketDirectory}/.s.PGSQL.5432` })
    await chown(`${socketDirectory}/.s.PGSQL.5432`, account.uid, account.gid)
    listeners = [listener, socketListener]
    await production.sql(`
      CREATE EXTENSION dblink;
      CREATE EXTENSION postgres_fdw;
      CREATE SERVER worker FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '${listener.port}', dbname 'shop');
      CREATE USER MAPPING FOR PUBLIC SERVER worker OPTIONS (user 'shop', password '${PLANTED}');
      CREATE TABLE shards (id int, node text) PARTITION BY LIST (id);
      CREATE FOREIGN TABLE shard_1 PARTITION OF shards FOR VALUES IN (1) SERVER worker OPTIONS (table_name 'shard_1');
      CREATE FUNCTION call_home() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM dblink_connect('host=127.0.0.1 port=${listener.port} connect_timeout=3'); END $$;
      CREATE EVENT TRIGGER at_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION call_home();
      CREATE FUNCTION looked_up(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN IF current_setting('port') <> '${production.port}' THEN
             PERFORM dblink_connect('host=127.0.0.1 port=${listener.port} connect_timeout=3'); END IF; RETURN $1; END $$;
    `)
    await production.sql(`
      SET session_replication_role = replica;
      ALTER EVENT TRIGGER at_ddl DISABLE;
      CREATE TABLE watched (i int);
      CREATE INDEX ON watched (looked_up(i));
      INSERT INTO watched SELECT g FROM generate_series(1, 5000) g;
      ALTER EVENT TRIGGER at_ddl ENABLE;
      ALTER TABLE watched SET (autovacuum_analyze_threshold = 1, autovacuum_vacuum_threshold = 1);
    `)
    await production.backup('full')
    await production.writeNotes(10, 'after the backup')
    await production.switchWal()
    await production.stop()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    session = await fleet.publish(
      '--repository',
      'main',
      '--instance',
      'shop',
      '--setting',
      'autovacuum_naptime=1s',
    )
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
    for (const one of listeners ?? []) await one.close()
    if (socketDirectory !== undefined) await rm(socketDirectory, { recursive: true, force: true })
  })

  /** The message with which PostgreSQL refuses a statement that must fail. */
  async function refusal(text: string, of = session): Promise<string> {
    return fleet.sql(of, text, 'shop').then(
      () => expect.fail(`${text} succeeded`),
      (error: Error) => error.message,
    )
  }

  it('is in place, so that the session has no warning about it', () => {
    expect(session.warnings.filter((warning) => /isolated/.test(warning))).to.deep.equal([])
  })

  it('keeps statements from connecting to another server of this machine', async () => {
    const attempts = [
      `SELECT dblink_connect('host=127.0.0.1 port=${listener.port} connect_timeout=3')`,
      `SELECT dblink_connect('host=${socketDirectory} port=5432')`,
      'SELECT * FROM shards',
      'INSERT INTO shards VALUES (1)',
      'CREATE TABLE made_by_ddl (i int)',
      `CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=${listener.port} connect_timeout=3' PUBLICATION p`,
      `COPY (SELECT 1) TO PROGRAM 'curl --max-time 3 http://127.0.0.1:${listener.port}/'`,
      `COPY (SELECT 1) TO PROGRAM 'curl --max-time 3 telnet://127.0.0.1:${listener.port}'`,
      `COPY (SELECT 1) TO PROGRAM 'bash -c "exec 3<>/dev/tcp/127.0.0.1/${listener.port}"'`,
      `COPY (SELECT 1) TO PROGRAM 'bash -c "exec 3<>/dev/tcp/::1/${listener.port}"'`,
    ]
    for (const attempt of attempts) await refusal(attempt)
    expect(listeners.map(({ connections }) => connections)).to.deep.equal([0, 0])
  })

  it('keeps background processes from connecting', async () => {
    await fleet.sql(session, 'DELETE FROM watched WHERE i > 4000', 'shop')
    // An autovacuum worker runs the index function, and logs that it failed.
    const log = () =>
      fleet.sql(
        session,
        `SELECT count(*) FROM regexp_matches(pg_read_file('${session.writeCache?.path}/log/postgresql.log'), 'automatic (analyze|vacuum) of table "shop.public.watched"', 'g')`,
      )
    for (const end = Date.now() + 30_000; (await log()) === '0'; await delay(200))
      if (Date.now() > end) expect.fail('autovacuum did not reach the table')
    expect(listener.connections).to.equal(0)
  })

  it('keeps one published instance from connecting to another', async () => {
    const other = await fleet.publish('--repository', 'main', '--instance', 'shop')
    await refusal(`SELECT dblink_connect('host=127.0.0.1 port=${other.connection?.port} connect_timeout=3')`)
    await refusal(
      `SELECT dblink_connect('host=${other.connection?.socketDirectory} port=${other.connection?.port}')`,
    )
    await fleet.howdahJson('unpublish', other.id, '--yes')
    expect(await listTables()).not.to.include(tableName(other.id))
  })

  it('lets an instance connect to itself', async () => {
    const { port, socketDirectory: own, user } = session.connection ?? expect.fail('no connection')
    const local = `SELECT dblink_connect('a', 'host=${own} port=${port} user=${user} dbname=shop')`
    expect(await fleet.sql(session, local, 'shop')).to.equal('OK')
    // Its own server answers, and asks for a password.
    expect(
      await refusal(`SELECT dblink_connect('host=127.0.0.1 port=${port} user=${user} dbname=shop')`),
    ).to.match(/password/)
  })

  it('keeps statements from writing outside of the session', async () => {
    const before = await readdir(outside)
    for (const file of [
      `${outside}/file`,
      `${production.dataDirectory}/file`,
      '/etc/howdah-test',
      '/usr/howdah-test',
      '/run/howdah-test',
    ])
      expect(await refusal(`COPY (SELECT 1) TO '${file}'`)).to.match(
        /No such file|Read-only|Permission denied/,
      )
    await refusal(`COPY (SELECT 1) TO PROGRAM 'touch ${outside}/touched'`)
    await refusal(`CREATE TABLESPACE ts LOCATION '${outside}'`)
    await refusal(
      `ALTER SYSTEM SET nothing.at_all = 1; COPY (SELECT 1) TO PROGRAM 'echo x > /proc/1/root${outside}/x'`,
    )
    expect(await readdir(outside)).to.deep.equal(before)
    expect(existsSync(`${production.dataDirectory}/file`)).to.equal(false)
  })

  it('includes temporary directories of its own', async () => {
    const name = `howdah-isolation-${session.id}.csv`
    await fleet.sql(session, `COPY (SELECT 1) TO '/tmp/${name}'`, 'shop')
    expect(await fleet.sql(session, `SELECT pg_read_file('/tmp/${name}')`, 'shop')).to.equal('1')
    expect(existsSync(`/tmp/${name}`)).to.equal(false)
    await writeFile(`/var/tmp/${name}`, '')
    expect(await refusal(`SELECT pg_read_file('/var/tmp/${name}')`)).to.match(/No such file/)
    await rm(`/var/tmp/${name}`)
  })

  it('restores the network rules when they are removed', async () => {
    const table = tableName(session.id)
    await applyRules(`delete table inet ${table}`)
    for (const end = Date.now() + 30_000; !(await listTables()).has(table); await delay(100))
      if (Date.now() > end) expect.fail('the rules are not restored')
    await refusal(`SELECT dblink_connect('host=127.0.0.1 port=${listener.port} connect_timeout=3')`)
    expect(listener.connections).to.equal(0)
  })

  it('lets an instance connect to allowed addresses, and to no others', async () => {
    const other = await listenAt({ host: '127.0.0.1' })
    listeners.push(other)
    const allowed = await fleet.publish(
      '--repository',
      'main',
      '--instance',
      'shop',
      '--allow-outbound',
      `127.0.0.1:${listener.port}`,
      '--allow-outbound',
      'localhost:9',
    )
    await refusal(`SELECT dblink_connect('host=127.0.0.1 port=${other.port} connect_timeout=3')`, allowed)
    await refusal(`SELECT dblink_connect('host=127.0.0.1 port=${listener.port} connect_timeout=3')`, allowed)
    expect([listener.connections > 0, other.connections]).to.deep.equal([true, 0])
    expect(await fleet.sql(allowed, "SELECT pg_read_file('/etc/hosts') ~ 'localhost'", 'shop')).to.equal('t')
    await fleet.howdahJson('unpublish', allowed.id, '--yes')
  })
})
