/** A cluster of PostgreSQL 17 in which every login connects to another server: published, and isolated. */
import { chmod, chown, cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import pg from 'pg'
import { freePort } from '../../coordinator/cli/free-port.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { binariesOf } from '../support/postgres-majors.ts'

const BINARIES = binariesOf('17')

describe('login triggers of a published PostgreSQL 17', function () {
  this.timeout(120_000)
  let directory: string
  let fleet: Fleet
  let session: SessionView
  let connections = 0
  let failed = false
  const listener = createServer((socket) => {
    connections++
    socket.destroy()
  })

  before(async () => {
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const address = listener.address()
    const listening = typeof address === 'object' && address !== null ? address.port : 0
    const account = await postgresAccount()
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-login-triggers-'))
    const [data, run, archive, repository] = ['data', 'run', 'archive', 'repository/main'].map((name) =>
      path.join(directory, name),
    ) as [string, string, string, string]
    for (const made of [run, archive, repository]) await mkdir(made, { recursive: true })
    for (const made of [directory, run, archive, path.dirname(repository), repository])
      await chown(made, account.uid, account.gid)
    await chmod(directory, 0o755)
    const port = await freePort()
    await runAs(account, path.join(BINARIES, 'initdb'), [
      ...['-D', data, '-U', 'postgres', '--auth=trust', '--no-sync', '--locale=C', '-E', 'UTF8'],
    ])
    await writeFile(
      path.join(data, 'postgresql.auto.conf'),
      `port = ${port}\nunix_socket_directories = '${run}'\nlisten_addresses = ''\nfsync = off\narchive_mode = on\narchive_command = 'cp %p ${archive}/%f'\n`,
    )
    const control = (...args: string[]) =>
      runAs(account, path.join(BINARIES, 'pg_ctl'), ['-s', '-w', '-D', data, ...args])
    await control('start', '-l', path.join(directory, 'log'))
    const client = new pg.Client({
      host: run,
      port,
      user: 'postgres',
      database: 'postgres',
      options: '-c event_triggers=off',
    })
    await client.connect()
    try {
      await client.query(`CREATE EXTENSION dblink;
        CREATE TABLE logins (said text);
        CREATE FUNCTION call_home() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
          PERFORM dblink_connect('host=127.0.0.1 port=${listening} connect_timeout=3');
        EXCEPTION WHEN OTHERS THEN INSERT INTO logins VALUES (SQLERRM); END $$;
        CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION call_home();
        ALTER EVENT TRIGGER at_login ENABLE ALWAYS`)
      await client.query("SELECT pg_backup_start('low-level', true)")
      await cp(data, path.join(repository, 'copy'), { recursive: true, preserveTimestamps: true })
      const [stopped] = (await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop()'))
        .rows
      await writeFile(path.join(repository, 'copy/backup_label'), stopped?.labelfile ?? '')
      await client.query('SELECT pg_switch_wal()')
    } finally {
      await client.end()
      await control('stop', '-m', 'fast')
    }
    // As installations have it that switch versions by a link.
    const linked = path.join(directory, 'current')
    await symlink(BINARIES, linked)
    fleet = await startFleet({
      repositories: [
        { name: 'main', format: 'basebackup', path: path.dirname(repository), walPath: archive },
      ],
      target: { postgres: { binaryDirectories: [linked] } },
    })
    session = await fleet.publish('--repository', 'main', '--instance', 'main')
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    if (directory !== undefined) await rm(directory, { recursive: true, force: true })
    await new Promise((resolve) => listener.close(resolve))
  })

  it('do not run for Howdah', async () => {
    expect(session.state).to.equal('published')
    expect(session.warnings.filter((warning) => /isolated/.test(warning))).to.deep.equal([])
    expect(connections).to.equal(0)
  })

  it('reach no other server when a user logs in', async () => {
    const said = await fleet.sql(session, 'SELECT count(*), min(said) FROM logins')
    expect(said).to.match(/^1\|could not establish connection/)
    expect(connections).to.equal(0)
  })
})
