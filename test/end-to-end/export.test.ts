import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import pg from 'pg'
import type { ExportRequest, ExportView } from '../../messages/exports.ts'
import type { SessionView } from '../../messages/values.ts'
import { type SshServer, startSshServer } from '../export/ssh-server.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import {
  type Account,
  type Cluster,
  makeCluster,
  postgresAccount,
  runAs,
} from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { PLANTED } from '../support/secrets.ts'

const LIVE_PASSWORD = `a:pass\\word ${PLANTED}`

interface Manifest {
  session: string
  export: string
  backup: string
  databases: {
    database: string
    status: string
    error?: { message: string }
    tables?: { schema: string; name: string; rows: number }[]
    files?: { path: string; bytes: number; sha256: string }[]
  }[]
}

describe('exporting', function () {
  this.timeout(120_000)

  let production: Production
  let account: Account
  let directory = ''
  let live: Cluster
  let ssh: SshServer
  let fleet: Fleet
  let session: SessionView
  // Until everything exists.
  let failed = true

  before(async () => {
    account = await postgresAccount()
    production = await makeProduction({ compress: 'zst', bundle: true })
    await production.sql(
      `CREATE DATABASE crm; CREATE DATABASE "we/ird ""name"; CREATE DATABASE broken; CREATE DATABASE slow`,
      'postgres',
    )
    await production.sql(
      `CREATE TYPE mood AS ENUM ('good', 'bad');
       CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, mood mood, twice int GENERATED ALWAYS AS (42) STORED);
       INSERT INTO customers (name, mood) SELECT 'customer ' || i, 'good' FROM generate_series(1, 500) i;
       CREATE TABLE "Old ""Bills" (id int PRIMARY KEY, customer int REFERENCES customers, at timestamptz DEFAULT now());
       INSERT INTO "Old ""Bills" SELECT i, i FROM generate_series(1, 300) i;
       CREATE TABLE measured (day date, value float8) PARTITION BY RANGE (day);
       CREATE TABLE measured_2024 PARTITION OF measured FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
       INSERT INTO measured SELECT '2024-01-01'::date + i % 300, i / 3.0 FROM generate_series(1, 900) i;
       CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'nobody alters tables here'; END$$;
       CREATE EVENT TRIGGER frozen ON ddl_command_start WHEN tag IN ('ALTER TABLE', 'ALTER INDEX') EXECUTE FUNCTION forbid()`,
      'crm',
    )
    await production.sql('CREATE TABLE t AS SELECT generate_series(1, 10) AS n', 'we/ird "name')
    await production.sql('CREATE TABLE t AS SELECT generate_series(1, 10) AS n', 'broken')
    await production.sql(
      'CREATE TABLE a AS SELECT generate_series(1, 1000) AS n; CREATE TABLE z AS SELECT 1 AS n',
      'slow',
    )
    // What old clusters have besides usable databases.
    await production.sql(
      `CREATE DATABASE unfinished; CREATE DATABASE foreignland;
       CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
       UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'unfinished';
       UPDATE pg_database SET datcollate = 'xx_XX.UTF-8', datctype = 'xx_XX.UTF-8' WHERE datname = 'foreignland';
       ALTER DATABASE "we/ird ""name" SET datestyle = 'German';
       ALTER DATABASE crm SET default_transaction_isolation = 'serializable'`,
      'postgres',
    )
    await production.sql(
      `CREATE EXTENSION postgres_fdw; CREATE SERVER hr FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'hr.example')`,
      'slow',
    )
    await production.sql(
      `SET client_encoding = 'UTF8'; CREATE TABLE "Öfen" ("Größe" serial, wie text, roh bytea); INSERT INTO "Öfen" (wie, roh) VALUES ('glühend\\heiß', '\\xff')`,
      'latin',
    )
    await production.backup('full')
    directory = await mkdtemp('/var/tmp/howdah-export-')
    await chmod(directory, 0o711)
    live = await startLive()
    ssh = await startSshServer(path.join(directory, 'ssh'))
    const password = path.join(directory, 'live.password')
    await writeFile(password, `${LIVE_PASSWORD}\n`, { mode: 0o600 })
    const key = { user: ssh.user, privateKeyFile: ssh.userKey }
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: {
        credentials: {
          archive: { ...key, knownHostsFile: ssh.knownHosts },
          fingerprint: { ...key, hostKeyFingerprint: ssh.fingerprint },
          stranger: { ...key, hostKeyFingerprint: `SHA256:${'A'.repeat(43)}` },
          live: { user: 'importer', passwordFile: password },
        },
      },
    })
    session = await publish()
    failed = false
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await ssh?.stop()
    await live?.stop('immediate')
    await production?.remove()
    if (directory !== '') await rm(directory, { recursive: true, force: true })
  })

  async function startLive(): Promise<Cluster> {
    const home = path.join(directory, 'live')
    await mkdir(home)
    await chown(home, account.uid, account.gid)
    const cluster = await makeCluster({ directory: home, account, configuration: 'inside', settings: {} })
    await writeFile(
      path.join(cluster.dataDirectory, 'pg_hba.conf'),
      'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n',
    )
    await cluster.start()
    await cluster.sql(`CREATE ROLE importer LOGIN SUPERUSER PASSWORD '${LIVE_PASSWORD}'`)
    return cluster
  }

  const publish = (...args: string[]): Promise<SessionView> =>
    fleet.publish('--repository', 'main', '--instance', production.stanza, ...args)

  /** A directory that the instance's user may make things in. */
  async function ownDirectory(name: string): Promise<string> {
    const made = path.join(directory, name)
    await mkdir(made)
    await chown(made, account.uid, account.gid)
    return made
  }

  async function ask(request: ExportRequest, of: SessionView = session): Promise<string> {
    const reply = await fleet.bus.request('session.export', { session: of.id, ...request })
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.export
  }

  async function untilExport(
    id: string,
    wanted: (view: ExportView) => boolean,
    of: SessionView = session,
  ): Promise<ExportView> {
    const deadline = Date.now() + 60_000
    for (;;) {
      const view = (await fleet.show(of.id)).exports?.find((each) => each.id === id)
      if (view && wanted(view)) return view
      if (Date.now() > deadline) throw new Error(`export ${id}: ${JSON.stringify(view)}`)
      await sleep(50)
    }
  }

  const ended = ({ status }: ExportView): boolean => status !== 'pending' && status !== 'running'

  async function exported(request: ExportRequest, of: SessionView = session): Promise<ExportView> {
    return untilExport(await ask(request, of), ended, of)
  }

  async function done(request: ExportRequest, of: SessionView = session): Promise<ExportView> {
    const view = await exported(request, of)
    expect(view.status, JSON.stringify(view)).to.equal('done')
    return view
  }

  const readManifest = async (file: string): Promise<Manifest> =>
    JSON.parse(await readFile(file, 'utf8')) as Manifest

  const DIGEST = `SELECT string_agg(t.d, ' ' ORDER BY t.d) FROM (
    SELECT c.relname || '=' || (xpath('/row/d/text()', query_to_xml(format(
      'SELECT count(*) || $x$:$x$ || md5(coalesce(string_agg(r::text, $x$,$x$ ORDER BY r::text), $x$$x$)) AS d FROM %s r', c.oid::regclass),
      false, true, '')))[1]::text AS d
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')) AS t`

  /** The rows of every table of a dump, by way of pg_restore into the live server. */
  async function restoredDigest(file: string): Promise<string> {
    const database = `restored_${createHash('md5').update(file).digest('hex').slice(0, 8)}`
    await live.sql(`CREATE DATABASE ${database}`)
    const where = ['-h', live.socketDirectory, '-p', String(live.port), '-U', live.user, '-d', database]
    if (file.endsWith('.sql'))
      await runAs(account, 'psql', ['-X', '-q', '-v', 'ON_ERROR_STOP=1', ...where, '-f', file])
    else await runAs(account, 'pg_restore', ['--no-tablespaces', '--exit-on-error', ...where, file])
    return live.sql(DIGEST, database)
  }

  const hashOf = async (file: string): Promise<string> =>
    createHash('sha256')
      .update(await readFile(file))
      .digest('hex')

  /** Locks a table, so that pg_dump of its database has to wait. */
  async function lock(
    database: string,
    table: string,
    of: SessionView = session,
  ): Promise<() => Promise<void>> {
    const { socketDirectory: host = '', port = 0, user = '' } = of.connection ?? {}
    const client = new pg.Client({ host, port, user, database })
    client.on('error', () => undefined)
    await client.connect()
    await client.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`)
    return () => client.end().catch(() => undefined)
  }

  const processesOf = (id: string): string =>
    execFileSync('sh', ['-c', `grep -lz 'HOWDAH_EXPORT=${id}' /proc/[0-9]*/environ 2>/dev/null || true`], {
      encoding: 'utf8',
    })

  describe('to a directory', () => {
    it('exports the databases that were changed, each in a form that pg_restore reads, and reports their contents', async () => {
      await fleet.sql(session, "UPDATE customers SET name = name || '!' WHERE id <= 100", 'crm')
      const home = await ownDirectory('changed')
      const view = await done({ destination: { type: 'directory', path: path.join(home, 'new') } })
      expect(view.databases.map(({ database }) => database)).to.deep.equal(['crm'])
      expect(view.databases[0]).to.include({ status: 'done', rows: 1700, tables: 3, tablesDone: 3 })
      expect(await readdir(path.join(home, 'new'))).to.have.members(['crm', 'howdah-export.json'])
      const manifest = await readManifest(view.manifest ?? '')
      expect(manifest).to.include({ session: session.id, export: view.id, backup: session.backup })
      expect(manifest.databases[0]?.tables).to.deep.include({
        schema: 'public',
        name: 'Old "Bills',
        rows: 300,
      })
      for (const { path: name, sha256 } of manifest.databases[0]?.files ?? [])
        expect(await hashOf(path.join(home, 'new', 'crm', name))).to.equal(sha256)
      expect(await restoredDigest(path.join(home, 'new', 'crm'))).to.equal(
        await fleet.sql(session, DIGEST, 'crm'),
      )
    })

    for (const [format, suffix] of [
      ['custom', 'dump'],
      ['plain', 'sql'],
    ] as const)
      it(`writes the format ${format} for databases of any name`, async () => {
        const at = await ownDirectory(format)
        const databases = ['crm', 'we/ird "name']
        const view = await done({ databases, format, destination: { type: 'directory', path: at } })
        const names = [`crm.${suffix}`, `we%2Fird%20%22name.${suffix}`]
        expect(await readdir(at)).to.have.members([...names, 'howdah-export.json'])
        const manifest = await readManifest(view.manifest ?? '')
        expect(await hashOf(path.join(at, names[1] ?? ''))).to.equal(
          manifest.databases[1]?.files?.[0]?.sha256,
        )
        expect(await restoredDigest(path.join(at, `crm.${suffix}`))).to.equal(
          await fleet.sql(session, DIGEST, 'crm'),
        )
      })

    it('exports single tables, a partitioned one with its partitions, from the databases that have them', async () => {
      const at = await ownDirectory('tables')
      const tables = ['measured', 'public."Old ""Bills"']
      const view = await done({ tables, format: 'custom', destination: { type: 'directory', path: at } })
      expect(view.databases.map(({ database, rows }) => [database, rows])).to.deep.equal([['crm', 1200]])
      expect(view.notes?.join('\n'))
        .to.include('"foreignland" was left out: database locale is incompatible')
        .and.include('"unfinished" was left out: it is invalid')
      const listed = await runAs(account, 'pg_restore', ['-l', path.join(at, 'crm.dump')])
      expect(listed).to.include('TABLE DATA public measured_2024')
      expect(listed).not.to.include('TABLE public customers')
    })

    it('says why a database cannot be exported, and attempts it once', async () => {
      const at = await ownDirectory('unusable')
      const databases = ['foreignland', 'unfinished', 'nowhere']
      const view = await exported({ databases, destination: { type: 'directory', path: at } })
      expect(view.databases.map(({ status }) => status)).to.deep.equal(['failed', 'failed', 'failed'])
      const [locale, invalid, absent] = view.databases.map(({ error }) => error?.message)
      expect(locale).to.include('LC_COLLATE "xx_XX.UTF-8"')
      expect(invalid).to.include('it is invalid')
      expect(absent).to.include('no database of that name')
      const { history = [] } = await fleet.show(session.id)
      expect(history.filter(({ text }) => text.startsWith('export failed'))).to.deep.equal([])
    })

    it('overwrites no file, and follows no symbolic link', async () => {
      const at = await ownDirectory('taken')
      await writeFile(path.join(at, 'mine'), 'mine')
      const refused = await exported({ databases: ['crm'], destination: { type: 'directory', path: at } })
      expect(refused.status).to.equal('failed')
      expect(refused.error).to.include({ code: 'path_unsafe' })
      expect(refused.error?.message).to.include('is not empty (mine)')
      expect(await readdir(at)).to.deep.equal(['mine'])
      await symlink(at, path.join(directory, 'link'))
      const linked = { type: 'directory', path: path.join(directory, 'link', 'new') } as const
      expect((await exported({ databases: ['crm'], destination: linked })).error?.message).to.include(
        'symbolic link',
      )
    })

    it('names a database that failed, and exports the others', async () => {
      await fleet.sql(
        session,
        "SET allow_system_table_mods = on; UPDATE pg_class SET relowner = 4711 WHERE relname = 't'",
        'broken',
      )
      const at = await ownDirectory('partly')
      const databases = ['broken', 'we/ird "name', 'nowhere']
      const view = await exported({
        databases,
        format: 'custom',
        destination: { type: 'directory', path: at },
      })
      expect(view.status).to.equal('failed')
      expect(view.databases.map(({ status }) => status)).to.deep.equal(['failed', 'done', 'failed'])
      expect(view.databases[0]?.error?.message).to.match(/^database "broken": .*4711/s)
      expect(view.databases[2]?.error?.message).to.include('there is no database of that name')
      expect(await readdir(at)).to.have.members(['we%2Fird%20%22name.dump', 'howdah-export.json'])
    })

    it('leaves no file when it is cancelled in the middle, and the instance unchanged', async () => {
      const unlock = await lock('slow', 'a')
      const home = await ownDirectory('cancelled')
      const id = await ask({
        databases: ['crm', 'slow'],
        destination: { type: 'directory', path: path.join(home, 'new') },
      })
      await untilExport(id, ({ databases }) => databases[1]?.status === 'running')
      await fleet.bus.request('session.cancel', { session: session.id })
      const view = await untilExport(id, ended)
      await unlock()
      expect(view.status).to.equal('cancelled')
      expect(await readdir(home)).to.deep.equal([])
      expect(processesOf(session.id)).to.equal('')
      expect((await fleet.show(session.id)).state).to.equal('published')
    })

    it('starts over cleanly when the agent is killed in the middle', async () => {
      const unlock = await lock('slow', 'a')
      const at = await ownDirectory('killed')
      const id = await ask({
        databases: ['crm', 'slow'],
        format: 'plain',
        destination: { type: 'directory', path: at },
      })
      await untilExport(id, ({ databases }) => databases[1]?.status === 'running')
      await fleet.stop('target-agent', 'SIGKILL')
      expect(await readdir(at)).to.have.length(1)
      await unlock()
      await fleet.start('target-agent')
      const view = await untilExport(id, ended)
      expect(view.status).to.equal('done')
      expect(await readdir(at)).to.have.members(['crm.sql', 'slow.sql', 'howdah-export.json'])
      expect(processesOf(session.id)).to.equal('')
    })
  })

  describe('over SFTP', () => {
    const to = (name: string, credential: string): ExportRequest['destination'] => ({
      ...{ type: 'sftp', host: '127.0.0.1', port: ssh.port, credential },
      path: path.join(directory, name),
    })

    for (const format of ['directory', 'custom', 'plain'] as const)
      it(`writes the format ${format}`, async () => {
        const at = path.join(directory, `sftp-${format}`)
        const view = await done({ databases: ['crm'], format, destination: to(`sftp-${format}`, 'archive') })
        const manifest = await readManifest(view.manifest ?? '')
        const name = { directory: 'crm', custom: 'crm.dump', plain: 'crm.sql' }[format]
        expect(await readdir(at)).to.have.members([name, 'howdah-export.json'])
        for (const file of manifest.databases[0]?.files ?? [])
          expect(
            await hashOf(path.join(at, format === 'directory' ? `crm/${file.path}` : file.path)),
          ).to.equal(file.sha256)
        execFileSync('chown', ['-R', account.name, at])
        expect(await restoredDigest(path.join(at, name))).to.equal(await fleet.sql(session, DIGEST, 'crm'))
      })

    it('identifies the server by its fingerprint, and sends nothing to an unknown one', async () => {
      await done({ databases: ['slow'], format: 'custom', destination: to('by-fingerprint', 'fingerprint') })
      const { error } = await exported({ databases: ['slow'], destination: to('by-nobody', 'stranger') })
      expect(error).to.include({ code: 'unauthorized' })
      expect(error?.message).to.include(ssh.fingerprint)
      const unknown = await exported({ databases: ['slow'], destination: to('by-nobody', 'nobody') })
      expect(unknown.error?.message).to.include('no credential "nobody"')
      expect(await readdir(directory)).not.to.include('by-nobody')
    })

    it('leaves no file on the server when it is cancelled', async () => {
      const unlock = await lock('slow', 'a')
      const id = await ask({
        databases: ['crm', 'slow'],
        format: 'custom',
        destination: to('sftp-cancelled', 'archive'),
      })
      await untilExport(id, ({ databases }) => databases[1]?.status === 'running')
      expect(await readdir(directory)).to.include('sftp-cancelled')
      await fleet.bus.request('session.cancel', { session: session.id })
      expect((await untilExport(id, ended)).status).to.equal('cancelled')
      await unlock()
      expect(await readdir(directory)).not.to.include('sftp-cancelled')
    })
  })

  describe('into a live server', () => {
    const into = (database?: string): ExportRequest['destination'] => ({
      ...{ type: 'postgres', host: '127.0.0.1', port: live.port, credential: 'live' },
      ...(database !== undefined && { database }),
    })

    it('creates the database where there is none, under a new name on request', async () => {
      const view = await done({
        databases: ['crm'],
        rename: [{ from: 'crm', to: 'crm_yesterday' }],
        destination: into(),
      })
      expect(view.databases[0]).to.include({
        status: 'done',
        rows: 1700,
        path: `127.0.0.1:${live.port}/crm_yesterday`,
      })
      expect(await live.sql(DIGEST, 'crm_yesterday')).to.equal(await fleet.sql(session, DIGEST, 'crm'))
    })

    it('renames tables on their way into a new database, despite event triggers that forbid it', async () => {
      const rename = [
        { from: 'crm', to: 'crm_renamed' },
        { from: 'customers', to: 'kunden' },
      ]
      await done({ databases: ['crm'], rename, destination: into() })
      expect(await live.sql('SELECT count(*) FROM kunden', 'crm_renamed')).to.equal('500')
    })

    it('creates a table under another name beside the original, which it does not change', async () => {
      await live.sql('CREATE DATABASE crm')
      await live.sql(
        `CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE customers (id serial PRIMARY KEY, name text); INSERT INTO customers (name) VALUES ('today')`,
        'crm',
      )
      const request = { databases: ['crm'], tables: ['customers', '"Old ""Bills"'] }
      const rename = [
        { from: 'public.customers', to: 'public.customers_yesterday' },
        { from: 'Old "Bills', to: 'rescued.bills' },
      ]
      const view = await done({ ...request, rename, destination: into() })
      expect(view.databases[0]).to.include({ rows: 800 })
      expect(await live.sql('SELECT * FROM customers', 'crm')).to.equal('1|today')
      const digest = 'SELECT count(*), md5(string_agg(c::text, $$,$$ ORDER BY id)) FROM'
      expect(await live.sql(`${digest} customers_yesterday c`, 'crm')).to.equal(
        await fleet.sql(session, `${digest} customers c`, 'crm'),
      )
      expect(await live.sql(`${digest} rescued.bills c`, 'crm')).to.equal(
        await fleet.sql(session, `${digest} "Old ""Bills" c`, 'crm'),
      )
      const names =
        "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relname LIKE 'customers\\_y%'"
      expect(await live.sql(names, 'crm')).to.equal(
        'customers_yesterday,customers_yesterday_id_seq,customers_yesterday_pkey',
      )
      expect(await live.sql("SELECT nextval('customers_yesterday_id_seq')", 'crm')).to.equal('501')
      expect(await live.sql('SELECT count(*) FROM pg_constraint WHERE contype = $$f$$', 'crm')).to.equal('1')
      expect(
        await fleet.sql(session, "SELECT count(*) FROM pg_database WHERE datname LIKE 'howdah%'"),
      ).to.equal('0')
    })

    it('keeps names and text of a database in another encoding', async () => {
      await live.sql('CREATE DATABASE latin')
      const rename = [{ from: 'Öfen', to: 'Öfen von gestern' }]
      await done({ databases: ['latin'], tables: ['"Öfen"'], rename, destination: into() })
      const copied = await live.sql('SELECT * FROM "Öfen von gestern"', 'latin')
      expect(copied).to.equal('1|glühend\\heiß|\\xff')
      const sequence = `SELECT nextval(pg_get_serial_sequence('"Öfen von gestern"', 'Größe'))`
      expect(await live.sql(sequence, 'latin')).to.equal('2')
    })

    it('refuses to overwrite a table, and names it', async () => {
      const { error } = await exported({ databases: ['crm'], tables: ['customers'], destination: into() })
      expect(error).to.include({ code: 'export_failed' })
      expect(error?.message).to.include('has public.customers already')
      expect(await live.sql('SELECT * FROM customers', 'crm')).to.equal('1|today')
    })

    it('leaves nothing of a failed or cancelled export on the server, and no password', async () => {
      const unlock = await lock('slow', 'z')
      const id = await ask({ databases: ['slow'], destination: into('slow_there') })
      const temporary =
        "SELECT count(*) FROM pg_database WHERE datname LIKE 'howdah%' OR datname = 'slow_there'"
      const deadline = Date.now() + 30_000
      while ((await live.sql(temporary)) !== '1' && Date.now() < deadline) await sleep(50)
      // The database exists before the programs that fill it start.
      for (let commands = ''; !commands.includes(`HOWDAH_EXPORT=${session.id}`); ) {
        expect(Date.now(), 'no program of the export in 30 s').to.be.below(deadline)
        commands = execFileSync(
          'sh',
          ['-c', 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true'],
          { encoding: 'latin1', maxBuffer: 64 * 1024 * 1024 },
        )
        expect(commands).not.to.include(LIVE_PASSWORD)
      }
      await fleet.bus.request('session.cancel', { session: session.id })
      expect((await untilExport(id, ended)).status).to.equal('cancelled')
      await unlock()
      expect(await live.sql(temporary)).to.equal('0')
      expect(await readdir(path.join(fleet.cacheRoot, session.id))).not.to.include('export')
    })
  })

  it('is of an instance that reports what in it refers to other systems, without that counting as a change', async () => {
    const deadline = Date.now() + 30_000
    let warnings = ''
    while (!warnings.includes('hr.example')) {
      expect(Date.now(), warnings).to.be.below(deadline)
      await sleep(100)
      warnings = (await fleet.show(session.id)).warnings.join('\n')
    }
    expect(warnings).to.include('Databases that cannot be entered here: "foreignland"')
  })

  describe('of what was changed', () => {
    async function changesOf(of: SessionView) {
      const reply = await fleet.bus.requestAgent({ kind: 'target', name: 'db-7' }, 'session.changes', {
        session: of.id,
      })
      if (!reply.accepted) throw new Error(reply.error.message)
      return reply.changes
    }

    it('reports the changes of a new session, of a changed one, and of one that was exported since', async () => {
      const other = await publish()
      expect(await changesOf(other)).to.deep.equal({ changed: false, databases: [] })
      await fleet.sql(other, 'SELECT count(*) FROM customers', 'crm')
      expect((await changesOf(other)).changed).to.equal(false)
      await fleet.sql(other, 'DELETE FROM customers WHERE id = 500', 'crm')
      expect(await changesOf(other)).to.deep.equal({ changed: true, databases: ['crm'] })
      const at = await ownDirectory('since')
      await done({ format: 'custom', destination: { type: 'directory', path: at } }, other)
      expect(await changesOf(other)).to.deep.equal({ changed: false, databases: [] })
      await fleet.sql(other, 'DELETE FROM customers WHERE id = 499', 'crm')
      expect(await changesOf(other)).to.deep.equal({ changed: true, databases: ['crm'] })
      await fleet.howdahJson('unpublish', other.id, '--yes')
    })

    it('still knows the changes after a crash of PostgreSQL, which loses its statistics', async () => {
      const other = await publish()
      await fleet.sql(other, 'DELETE FROM customers WHERE id = 500', 'crm')
      expect((await changesOf(other)).databases).to.deep.equal(['crm'])
      const pid = await fleet.sql(
        other,
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'",
      )
      process.kill(Number(pid), 'SIGKILL')
      const deadline = Date.now() + 30_000
      let known: string[] | undefined
      while (known === undefined && Date.now() < deadline) {
        known = await changesOf(other).then(
          ({ databases }) => databases,
          () => undefined,
        )
        await sleep(100)
      }
      expect(known).to.deep.equal(['crm'])
      await fleet.howdahJson('unpublish', other.id, '--yes')
    })
  })

  describe('in the whole life of a session', () => {
    it('is stopped by an unpublish, and leaves no file', async () => {
      const other = await publish()
      const unlock = await lock('slow', 'a', other)
      const home = await ownDirectory('unpublished')
      const id = await ask(
        { databases: ['slow'], destination: { type: 'directory', path: path.join(home, 'new') } },
        other,
      )
      await untilExport(id, ({ databases }) => databases[0]?.status === 'running', other)
      const gone = await fleet.howdahJson<SessionView>('unpublish', other.id, '--yes')
      await unlock()
      expect(gone.state).to.equal('closed')
      expect(await readdir(home)).to.deep.equal([])
      expect(processesOf(other.id)).to.equal('')
    })

    it('can publish, export and unpublish by one command', async () => {
      const at = await ownDirectory('one-command')
      const session = await run({
        tables: ['notes'],
        format: 'custom',
        destination: { type: 'directory', path: at },
      })
      const gone = await fleet.untilState(session, 'closed')
      expect(gone.exports?.[0]).to.include({ status: 'done' })
      expect(await readdir(at)).to.have.members(['shop.dump', 'howdah-export.json'])
      expect(await readdir(fleet.cacheRoot)).not.to.include(session)
    })

    it('reports why such a command failed, and unpublishes', async () => {
      const at = await ownDirectory('one-command-failed')
      const session = await run({
        tables: ['nothing_of_that_name'],
        destination: { type: 'directory', path: at },
      })
      const gone = await fleet.untilState(session, 'failed')
      expect(gone.error).to.include({ code: 'export_failed' })
      expect(gone.error?.message).to.include('nothing_of_that_name')
      expect(await readdir(at)).to.deep.equal([])
    })

    async function run(request: ExportRequest): Promise<string> {
      const reply = await fleet.bus.request('instance.publish', {
        ...{ repository: 'main', instance: production.stanza, target: 'db-7' },
        export: request,
      })
      if (!reply.accepted) throw new Error(reply.error.message)
      return reply.session
    }
  })
})
