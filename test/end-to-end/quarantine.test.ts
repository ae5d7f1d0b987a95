import { existsSync } from 'node:fs'
import { appendFile, chown, mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import path from 'node:path'
import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import type { ErrorBody } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { PLANTED } from '../support/secrets.ts'

/** A row of /proc/net/tcp; proc(5): addresses are hexadecimal, `0A` is LISTEN. */
interface Socket {
  readonly local: string
  readonly remote: string
  readonly listens: boolean
}

describe('quarantine', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let session: SessionView
  /** Everything that production's configuration names and that must not come into being. */
  let outside: string
  let listener: Server
  let connections = 0
  let failed = false

  before(async () => {
    listener = createServer((socket) => {
      connections++
      socket.destroy()
    })
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    production = await makeProduction({
      compress: 'zst',
      tablespace: false,
      // Production itself must not connect while connections are counted.
      settings: { wal_level: 'logical', max_logical_replication_workers: '0' },
    })
    const account = await postgresAccount()
    outside = path.join(production.directory, 'outside')
    await mkdir(outside)
    await chown(outside, account.uid, account.gid)
    await production.backup('full')
    await entangle()
    await production.backup('full')
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    session = await publish({})
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
    await new Promise((resolve) => (listener ? listener.close(resolve) : resolve(undefined)))
  })

  /** Makes a production of it that is tied to all the world. Its server does not read the files again. */
  async function entangle(): Promise<void> {
    const address = listener.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const conninfo = `host=127.0.0.1 port=${port} user=replicator password=${PLANTED} dbname=shop`
    await production.sql(`SELECT pg_create_physical_replication_slot('standby_1', true);
      SELECT pg_create_logical_replication_slot('cdc', 'pgoutput');
      CREATE SUBSCRIPTION from_hub CONNECTION '${conninfo}' PUBLICATION hub WITH (connect = false, slot_name = 'from_hub');
      ALTER SUBSCRIPTION from_hub ENABLE`)
    const inData = (name: string) => path.join(production.dataDirectory, name)
    const other = path.join(outside, 'other-instance.conf')
    await writeFile(other, "maintenance_work_mem = '77MB'\n")
    await mkdir(inData('conf.d'))
    await writeFile(inData('conf.d/10-work.conf'), "work_mem = '7MB'\n")
    await appendFile(
      inData('postgresql.conf'),
      `include_dir 'conf.d'
include '${other}'
include '/etc/howdah-no-such/shop.conf'
include_if_exists '/etc/howdah-no-such/perhaps.conf'
include_dir '/etc/howdah-no-such/conf.d'
listen_addresses = '*'
unix_socket_directories = '${production.socketDirectory}'
external_pid_file = '${outside}/pid'
cluster_name = 'production'
ssl = on
ssl_cert_file = '/etc/howdah-no-such/server.crt'
ssl_key_file = '/etc/howdah-no-such/server.key'
logging_collector = on
log_directory = '${outside}/log'
shared_preload_libraries = 'pg_cron, auto_explain, howdah_no_such_library'
cron.database_name = 'shop'
max_logical_replication_workers = 4
synchronous_standby_names = '*'
default_transaction_read_only = on
`,
    )
    await appendFile(
      inData('postgresql.auto.conf'),
      `archive_mode = 'always'
archive_command = 'touch ${outside}/archived'
archive_library = 'howdah_no_such_library'
archive_timeout = '1'
primary_conninfo = '${conninfo}'
primary_slot_name = 'standby_1'
restore_command = 'touch ${outside}/restored; false'
archive_cleanup_command = 'touch ${outside}/cleaned'
recovery_end_command = 'touch ${outside}/recovered'
recovery_target_time = '2020-01-01 00:00:00+00'
recovery_target_action = 'shutdown'
`,
    )
  }

  async function begin(options: Partial<CommandBody<'instance.publish'>>): Promise<string> {
    const reply = await fleet.bus.request('instance.publish', {
      repository: 'main',
      instance: production.stanza,
      target: 'db-7',
      ...options,
    })
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.session
  }

  const publish = async (options: Partial<CommandBody<'instance.publish'>>) =>
    fleet.untilState(await begin(options), 'published')

  async function refused(options: Partial<CommandBody<'instance.publish'>>): Promise<SessionView> {
    return fleet.untilState(await begin(options), 'failed')
  }

  const show = (name: string) => fleet.sql(session, `SHOW ${name}`)

  /** Every TCP socket that a process of the instance has. */
  async function sockets(): Promise<Socket[]> {
    const pid = (await fleet.sql(session, "SELECT pg_read_file('postmaster.pid')")).split('\n')[0] ?? ''
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ')
    const inodes = new Set<string>()
    for (const process of [pid, ...children]) {
      const descriptors = await readdir(`/proc/${process}/fd`).catch(() => [])
      for (const descriptor of descriptors) {
        const link = await readlink(`/proc/${process}/fd/${descriptor}`).catch(() => '')
        const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1]
        if (inode !== undefined) inodes.add(inode)
      }
    }
    const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8')))
    return tables
      .flatMap((table) => table.trim().split('\n').slice(1))
      .map((line) => line.trim().split(/\s+/))
      .filter((columns) => inodes.has(columns[9] ?? ''))
      .map(([, local = '', remote = '', state]) => ({ local, remote, listens: state === '0A' }))
  }

  it('starts although files and libraries of production do not exist here', async () => {
    expect(await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
    await fleet.sql(session, "INSERT INTO notes (note) VALUES ('mine')", production.database)
    expect(await show('shared_preload_libraries')).to.equal('auto_explain')
    expect(await show('cluster_name')).to.equal(`howdah-${session.id}`)
  })

  it('has the settings of configuration files in the backup, and none of this machine', async () => {
    expect(await show('work_mem')).to.equal('7MB')
    expect(await show('maintenance_work_mem')).not.to.equal('77MB')
  })

  it('archives nothing, runs no command and writes no file of production', async () => {
    await fleet.sql(session, 'SELECT pg_switch_wal(); CHECKPOINT')
    await fleet.sql(session, "INSERT INTO notes (note) VALUES ('more')", production.database)
    await fleet.sql(session, 'SELECT pg_switch_wal(); CHECKPOINT')
    expect(await show('archive_mode')).to.equal('off')
    expect(await readdir(outside)).to.deep.equal(['other-instance.conf'])
    const ready = await fleet.sql(
      session,
      "SELECT count(*) FROM pg_ls_dir('pg_wal/archive_status') AS name WHERE name LIKE '%.ready'",
    )
    expect(ready).to.equal('0')
  })

  it('connects to no other server, and retains no WAL for a replica', async () => {
    const workers = `SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'logical|walreceiver|archiver|cron'`
    expect(await fleet.sql(session, workers)).to.equal('0')
    expect(await fleet.sql(session, 'SELECT count(*) FROM pg_replication_slots')).to.equal('0')
    expect(await fleet.sql(session, 'SELECT subname, subenabled FROM pg_subscription')).to.equal('from_hub|t')
    expect((await sockets()).filter(({ listens }) => !listens)).to.deep.equal([])
    expect(connections).to.equal(0)
  })

  it('listens on this machine only, on a port and in a directory of its own', async () => {
    const port = session.connection?.port ?? 0
    expect(port).not.to.equal(production.port)
    const hexadecimal = port.toString(16).toUpperCase().padStart(4, '0')
    const local = [`0100007F:${hexadecimal}`, `${'0'.repeat(24)}01000000:${hexadecimal}`]
    const addresses = (await sockets()).map((socket) => socket.local)
    expect(addresses).not.to.deep.equal([])
    expect(local).to.include.members(addresses)
    expect(await show('unix_socket_directories')).to.equal(session.connection?.socketDirectory)
  })

  it('reports what was switched off and left out, without revealing secrets', () => {
    const said = session.warnings.join('\n')
    const matters = [
      /archiving/,
      /following a primary/,
      /synchronous standbys/,
      /commands of recovery/,
      /TLS/,
      /listens on this machine only/,
      /pg_cron/,
      /howdah_no_such_library/,
      /Subscriptions stand still: from_hub/,
      /\/etc\/howdah-no-such\/shop\.conf.*perhaps\.conf.*conf\.d/,
      /other-instance\.conf/,
    ]
    for (const matter of matters) expect(said).to.match(matter)
    expect(said).not.to.include(PLANTED)
  })

  it('hides the configuration of production from other users of this machine', async () => {
    const { mode } = await stat(`${session.writeCache?.path}/conf/postgresql.conf`)
    expect(mode & 0o007).to.equal(0)
  })

  it('is opened by addresses, settings and a pg_hba.conf of the user', async () => {
    const opened = await publish({
      listen: ['127.0.0.2'],
      settings: { work_mem: '11MB', 'howdah.note': "it's mine" },
      hba: 'host all all 127.0.0.0/8 trust',
    })
    const { host, port } = opened.connection ?? { host: '', port: 0 }
    expect(host).to.equal('127.0.0.2')
    const where = ['-h', host, '-p', String(port), '-U', production.user, '-d', 'postgres']
    const query = [
      '-X',
      '-A',
      '-t',
      '-c',
      "SELECT current_setting('work_mem') || current_setting('howdah.note')",
    ]
    const account = await postgresAccount()
    expect((await runAs(account, 'psql', [...where, ...query])).trim()).to.equal("11MBit's mine")
    await fleet.howdahJson('unpublish', opened.id, '--yes')
  })

  it('names every setting and address that is not accepted, before anything is mounted', async () => {
    const view = await refused({
      settings: { work_mem: 'plenty', port: '5432', no_such_setting: 'x' },
      listen: ['a b'],
    })
    const fields = (details: ErrorBody[] | undefined) => details?.map(({ field }) => field)
    expect(fields(view.error?.details)).to.have.members(['listen', 'settings.port'])
    expect(view.steps.map(({ step }) => step)).not.to.include('mount')
    const second = await refused({ settings: { work_mem: 'plenty', no_such_setting: 'x' } })
    expect(fields(second.error?.details)).to.have.members(['settings.work_mem', 'settings.no_such_setting'])
    expect(second.error?.message).to.include('plenty')
  })

  it('names the line of pg_hba.conf that is wrong', async () => {
    const { error, id } = await refused({ hba: 'host all all 127.0.0.1/32 trust\nnobody knows\n' })
    expect(error).to.include({ code: 'configuration', field: 'hba' })
    expect(error?.message).to.match(/line 2: .*nobody/)
    expect(existsSync(path.join(fleet.cacheRoot, id))).to.equal(false)
  })
})
