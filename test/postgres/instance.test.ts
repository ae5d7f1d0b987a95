import { execFile } from 'node:child_process'
import {
  access,
  appendFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { findInstance, startInstance } from '../../agents/target/postgres/instance.ts'
import { findServerProcesses } from '../../agents/target/postgres/process/process-table.ts'
import { readRecord } from '../../agents/target/postgres/process/record.ts'
import { stopInstance } from '../../agents/target/postgres/process/stop.ts'
import { distanceWarnings } from '../../agents/target/postgres/recovery/reached.ts'
import { type InstanceSpec, instancePaths } from '../../agents/target/postgres/specification.ts'
import type { ErrorCode } from '../../messages/errors.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { RecoverTo } from '../../messages/values.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from './backup.ts'

const run = promisify(execFile)
const LATEST: RecoverTo = { type: 'latest' }

/** Rejects with what `start` failed with. */
async function failure(start: Promise<unknown>): Promise<HowdahError> {
  try {
    await start
  } catch (error) {
    if (error instanceof HowdahError) return error
    throw error
  }
  throw new Error('it did not fail')
}

async function expectFailure(spec: InstanceSpec, code: ErrorCode): Promise<HowdahError> {
  const error = await failure(startInstance(spec, { logger, syncMount }))
  expect(error.code, error.message).to.equal(code)
  expect(await findInstance(spec)).to.equal(undefined)
  return error
}

async function lastSegment({ mountPoint }: InstanceSpec): Promise<string> {
  const names = (await readdir(join(mountPoint, 'wal'))).filter((name) => /^[0-9A-F]{24}$/.test(name))
  return names.sort().at(-1) ?? ''
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('the condition did not come true within 10 s')
    await delay(20)
  }
}

/** Shared memory of the user's dead servers. */
async function orphanedSegments(uid: number): Promise<string[]> {
  const table = await readFile('/proc/sysvipc/shm', 'utf8')
  const lines = table.split('\n').slice(1)
  return lines.filter((line) => {
    const [, , , , , , attached, owner] = line.trim().split(/\s+/)
    return attached === '0' && Number(owner) === uid
  })
}

/** The data directory of these tests is a plain one, without a mount. */
const syncMount = async (): Promise<void> => undefined

describe('A published instance', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined

  async function mount(recoverTo = LATEST, changes: Partial<InstanceSpec> = {}): Promise<Published> {
    published = await mountCopy(backup, recoverTo, changes)
    return published
  }
  const inData = (name: string) => join(published?.spec.mountPoint ?? '', 'data', name)

  before(async () => {
    backup = await makeBackup({ settings: { fsync: 'on' } })
  })
  afterEach(async () => {
    await published?.remove()
    published = undefined
  })
  after(() => backup?.remove())

  it('recovers to the end of the archive, is writable, and reports how to connect', async () => {
    const { spec, sql } = await mount()
    const result = await startInstance(spec, { logger, syncMount })
    await sql('INSERT INTO t VALUES (0)')
    expect(await sql('SELECT count(*) FROM t')).to.equal('1501')
    const run = `${spec.cachePath}/run`
    const { reached, ...rest } = result
    expect(reached?.lsn).to.match(/^0\/[0-9A-F]+$/)
    expect(Date.parse(reached?.lastCommit ?? '')).to.be.within(Date.now() - 600_000, Date.now())
    expect(rest).to.deep.equal({
      connection: { host: run, socketDirectory: run, port: spec.port, user: 'postgres' },
      warnings: ['Switched off, so that production is not disturbed: archiving.'],
    })
  })

  it("reports the last of production's transactions, also after a crash and later commits", async () => {
    const { spec, sql } = await mount()
    const { reached } = await startInstance(spec, { logger, syncMount })
    await sql('INSERT INTO t VALUES (0)')
    await stopInstance(spec, { logger, mode: 'immediate' })
    expect((await startInstance(spec, { logger, syncMount })).reached).to.deep.equal(reached)
  })

  it('warns if its last transaction is long before the requested time', () => {
    const reached = { lsn: '0/3000148', lastCommit: '2026-01-01T10:00:00.000Z' }
    expect(distanceWarnings({ ...reached, secondsBefore: 60 })).to.deep.equal([])
    expect(distanceWarnings({ ...reached, secondsBefore: 7_200 })[0]).to.match(/10:00:00.*120 min before/)
    expect(distanceWarnings({ lsn: '0/3000148' })).to.deep.equal([])
  })

  it('is durable before it is reported, and syncs from then on', async () => {
    const { spec, sql } = await mount()
    const synced: string[] = []
    const askAndSync = async (): Promise<void> => {
      synced.push(await sql('SHOW fsync'))
    }
    await startInstance(spec, { logger, syncMount: askAndSync })
    expect(synced).to.deep.equal(['on'])
    await access(`${spec.cachePath}/conf/recovered`)
  })

  it('recovers only to the end of the backup, if requested', async () => {
    const { spec, sql } = await mount({ type: 'immediate' })
    await startInstance(spec, { logger, syncMount })
    expect(await sql('SELECT count(*) FROM t')).to.equal('1000')
  })

  it('reports the progress of recovery', async () => {
    const { spec } = await mount()
    const details: string[] = []
    await startInstance(spec, { logger, syncMount, onProgress: ({ detail }) => details.push(detail) })
    expect(details.join('\n')).to.match(/restored WAL file 0{7}1[0-9A-F]{16}/)
    expect(details).to.include('promoting to timeline 2')
    expect(details.at(-1)).to.equal('accepting connections')
  })

  it('neither archives, replicates nor follows, whatever production did', async () => {
    const { spec, sql } = await mount()
    const marker = join(backup.directory, 'production-was-disturbed')
    let connections = 0
    const primary: Server = createServer((socket) => {
      connections++
      socket.destroy()
    })
    await new Promise<void>((resolve) => primary.listen(0, '127.0.0.1', resolve))
    const address = primary.address()
    const port = address !== null && typeof address === 'object' ? address.port : 0
    const settings = {
      archive_mode: 'always',
      archive_command: `touch ${marker}; exit 0`,
      archive_timeout: '1s',
      archive_cleanup_command: `touch ${marker}`,
      recovery_end_command: `touch ${marker}`,
      restore_command: `touch ${marker}; exit 1`,
      primary_conninfo: `host=127.0.0.1 port=${port} user=replicator`,
      primary_slot_name: 'standby_1',
      recovery_target_time: '2020-01-01 00:00:00+00',
      recovery_target_action: 'shutdown',
      recovery_min_apply_delay: '1h',
      synchronous_standby_names: '*',
      default_transaction_read_only: 'on',
      listen_addresses: '*',
      unix_socket_directories: '/var/run/postgresql',
      unix_socket_group: 'no-such-group',
      external_pid_file: marker,
      ssl: 'on',
      ssl_cert_file: '/no/such/certificate',
      logging_collector: 'on',
      log_directory: '/no/such/directory',
      data_directory: '/no/such/data',
      hba_file: '/no/such/hba',
    }
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`)
    await appendFile(inData('postgresql.conf'), `port = ${port}\n`)
    await appendFile(inData('postgresql.auto.conf'), lines.join(''))
    await writeFile(inData('standby.signal'), '')
    await mkdir(inData('pg_replslot/standby_1'))
    try {
      await startInstance(spec, { logger, syncMount })
      await sql('INSERT INTO t VALUES (0); SELECT pg_switch_wal()')
      expect(await sql('SELECT count(*) FROM t')).to.equal('1501')
      expect(await sql('SELECT count(*) FROM pg_replication_slots')).to.equal('0')
      expect(
        await sql(
          `SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'wal ?receiver|archiver|logical'`,
        ),
      ).to.equal('0')
      expect(connections).to.equal(0)
      expect(await lstat(marker).catch(() => 'absent')).to.equal('absent')
      expect(await sql('SHOW listen_addresses')).to.equal('localhost')
    } finally {
      await new Promise((resolve) => primary.close(resolve))
    }
  })

  it('omits preloaded libraries that act on their own or are missing, with a warning', async () => {
    const { spec, sql } = await mount()
    await appendFile(
      inData('postgresql.conf'),
      "shared_preload_libraries = 'pg_cron, auto_explain, no_such_library'\n",
    )
    const { warnings } = await startInstance(spec, { logger, syncMount })
    expect(await sql('SHOW shared_preload_libraries')).to.equal('auto_explain')
    expect(warnings.join(' ')).to.match(/pg_cron.*production jobs.*no_such_library.*not known/)
  })

  it('has the limits that recovery needs where the configuration of the backup is lower', async () => {
    const { spec, sql } = await mount()
    await appendFile(
      inData('postgresql.conf'),
      'max_connections = 20\nmax_wal_senders = 3\nmax_worker_processes = 50\n',
    )
    await startInstance(spec, { logger, syncMount })
    const limits = 'max_connections,max_wal_senders,max_worker_processes'.split(',')
    expect(await sql(limits.map((name) => `SHOW ${name};`).join('\n'))).to.equal('100\n10\n50')
  })

  it('has its tablespaces in the mount, never where production has them', async () => {
    const { spec, sql } = await mount()
    const oid = '16500'
    const production = join(backup.directory, 'production-tablespace')
    const mounted = join(spec.mountPoint, 'tblspc', oid)
    await mkdir(mounted, { recursive: true })
    await symlink(production, inData(`pg_tblspc/${oid}`))
    await writeFile(inData('tablespace_map'), `${oid} ${production}\n`)
    await startInstance(spec, { logger, syncMount })
    expect(await readlink(inData(`pg_tblspc/${oid}`))).to.equal(mounted)
    expect(await sql('SELECT count(*) FROM t')).to.equal('1500')
  })

  it('follows no symbolic link in the place of its signal files', async () => {
    const { spec } = await mount()
    const victim = join(backup.directory, 'victim')
    await writeFile(victim, 'precious')
    await symlink(victim, inData('recovery.signal'))
    await startInstance(spec, { logger, syncMount })
    expect(await readFile(victim, 'utf8')).to.equal('precious')
  })

  it('is adopted with the same result by another agent process', async () => {
    const { spec } = await mount()
    const first = await startInstance(spec, { logger, syncMount })
    const before = await findInstance(spec)
    expect(await startInstance(spec, { logger, syncMount })).to.deep.equal(first)
    await rm(`${spec.cachePath}/conf/postgres.json`)
    expect((await startInstance(spec, { logger, syncMount })).connection).to.deep.equal(first.connection)
    expect((await findInstance(spec))?.postmaster).to.deep.equal(before?.postmaster)
  })

  it('starts again after its postmaster was killed, with what was committed and without recovering from the archive', async () => {
    const { spec, sql } = await mount({ type: 'immediate' })
    await startInstance(spec, { logger, syncMount })
    await sql('INSERT INTO t VALUES (0)')
    const timeline = 'SELECT timeline_id FROM pg_control_checkpoint()'
    const before = await sql(timeline)
    const pid = (await findInstance(spec))?.postmaster.pid ?? 0
    process.kill(pid, 'SIGKILL')
    await until(async () => (await findInstance(spec)) === undefined)
    await startInstance(spec, { logger, syncMount })
    expect(await sql('SELECT count(*) FROM t')).to.equal('1001')
    expect(await sql(timeline)).to.equal(before)
    expect((await findInstance(spec))?.postmaster.pid).not.to.equal(pid)
  })

  it('starts again after it was stopped during recovery', async () => {
    const { spec, sql } = await mount()
    // Requests for WAL wait on a FIFO without a writer, as if the mount server were unreachable.
    const segment = (await readdir(join(spec.mountPoint, 'wal')))
      .filter((name) => /^[0-9A-F]{24}$/.test(name))
      .sort()
    const last = join(spec.mountPoint, 'wal', segment.at(-1) ?? '')
    await rename(last, `${last}.away`)
    await run('mkfifo', ['-m', '644', last])
    const starting = failure(startInstance(spec, { logger, syncMount, timeoutMs: 1_000 }))
    expect((await starting).code).to.equal('timeout')
    expect(await stopInstance(spec, { logger, graceMs: 500 })).not.to.equal('absent')
    expect((await run('ps', ['-eo', 'args'])).stdout).not.to.include(spec.mountPoint)
    await rename(`${last}.away`, last)
    await startInstance(spec, { logger, syncMount })
    expect(await sql('SELECT count(*) FROM t')).to.equal('1500')
  })

  it('continues to recover when the wait for it is aborted', async () => {
    const { spec } = await mount()
    const controller = new AbortController()
    const reason = new Error('the step was cancelled')
    const starting = startInstance(spec, {
      logger,
      syncMount,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    expect(await starting.catch((error: unknown) => error)).to.equal(reason)
    expect((await startInstance(spec, { logger, syncMount })).connection.port).to.equal(spec.port)
  })

  it('is writable although production made its database read-only', async () => {
    const { spec, sql } = await mount()
    await startInstance(spec, { logger, syncMount })
    await sql('ALTER DATABASE postgres SET default_transaction_read_only = on')
    await rm(`${spec.cachePath}/conf/postgres.json`)
    await startInstance(spec, { logger, syncMount, timeoutMs: 10_000 })
  })

  it('stops with all its processes and shared memory gone, and stopping it again does nothing', async () => {
    const { spec } = await mount()
    await startInstance(spec, { logger, syncMount })
    expect(await stopInstance(spec, { logger })).to.equal('fast')
    expect(await stopInstance(spec, { logger })).to.equal('absent')
    expect(await findServerProcesses({ ...spec, uid: spec.user.uid })).to.deep.equal([])
  })

  it('leaves no process and no shared memory when it is stopped after its postmaster was killed', async () => {
    const { spec } = await mount()
    await startInstance(spec, { logger, syncMount })
    const pid = (await findInstance(spec))?.postmaster.pid ?? 0
    const { segments } = JSON.parse(await readFile(`${spec.cachePath}/conf/postgres.json`, 'utf8')) as {
      segments: string[]
    }
    // The control segment of dynamic shared memory lists the others, at 16 and every 40 bytes on.
    const control = await readFile(`/dev/shm/${segments[0]}`)
    const statistics = `PostgreSQL.${control.readUInt32LE(16)}`
    expect(await readdir('/dev/shm')).to.include(statistics)
    process.kill(pid, 'SIGKILL')
    await until(async () => (await findInstance(spec)) === undefined)
    await stopInstance(spec, { logger })
    expect(await findServerProcesses({ ...spec, uid: spec.user.uid })).to.deep.equal([])
    expect(
      (await readdir('/dev/shm')).filter((name) => [...segments, statistics].includes(name)),
    ).to.deep.equal([])
    const orphans = await orphanedSegments(spec.user.uid)
    expect(orphans.filter((line) => line.trim().split(/\s+/)[4] === String(pid))).to.deep.equal([])
  })

  it('fails as port_taken when something else listens on its port', async () => {
    const { spec } = await mount()
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(spec.port, '127.0.0.1', resolve))
    try {
      const error = await expectFailure(spec, 'port_taken')
      expect(error.message).to.include(`Port ${spec.port} is in use`)
    } finally {
      await new Promise((resolve) => other.close(resolve))
    }
  })

  it('fails as wal_missing, naming the segments, when the archive lacks what the backup needs', async () => {
    const neededWal = { first: '000000010000000000000002', last: '000000010000000000000002' }
    const { spec } = await mount(LATEST, { neededWal })
    for (const name of await readdir(join(spec.mountPoint, 'wal')))
      await rm(join(spec.mountPoint, 'wal', name))
    const error = await expectFailure(spec, 'wal_missing')
    expect(error.message).to.include(neededWal.first).and.to.include(spec.cachePath)
  })

  it('fails as target_unreachable when the archive ends before the target', async () => {
    const { spec } = await mount({ type: 'name', value: 'never-made' })
    const error = await expectFailure(spec, 'target_unreachable')
    expect(error.message).to.include('never-made')
  })

  it('does not take a failing archive for the end of the archive', async () => {
    const { spec } = await mount()
    await rm(join(spec.mountPoint, 'wal'), { recursive: true })
    await writeFile(join(spec.mountPoint, 'wal'), '')
    const error = await expectFailure(spec, 'postgres_failed')
    expect(error.message).to.include('from the archive failed')
  })

  it('ends before a partial last segment, as a server leaves it that ended while archiving', async () => {
    for (const afterRecovery of ['promote', 'pause'] as const) {
      const { spec, sql } = await mount(LATEST, { afterRecovery })
      const last = await lastSegment(spec)
      await truncate(join(spec.mountPoint, 'wal', last), 5_000_000)
      const { warnings } = await startInstance(spec, { logger, syncMount })
      expect(await sql('SELECT count(*) FROM t')).to.equal('1000')
      expect(warnings.join()).to.match(new RegExp(`part of .*${last}: 5000000 of 16777216 bytes`))
      await published?.remove()
    }
  })

  it('does not end before a partial segment that another one follows', async () => {
    const { spec } = await mount()
    const last = await lastSegment(spec)
    await truncate(join(spec.mountPoint, 'wal', last), 5_000_000)
    const next = `${last.slice(0, 16)}${(Number.parseInt(last.slice(16), 16) + 1).toString(16).toUpperCase().padStart(8, '0')}`
    await writeFile(join(spec.mountPoint, 'wal', next), '')
    const error = await expectFailure(spec, 'postgres_failed')
    expect(error.message).to.include(`only 5000000 of 16777216 bytes there, and ${next} follows it`)
  })

  it('fails with the signal that killed it during recovery, and leaves nothing', async () => {
    const { spec } = await mount()
    const error = await failure(
      startInstance(spec, {
        logger,
        syncMount,
        onProgress: ({ detail }) => {
          if (detail.startsWith('replaying'))
            void findInstance(spec).then((found) => found && process.kill(found.postmaster.pid, 'SIGKILL'))
        },
      }),
    )
    expect(error.message).to.include('was killed by SIGKILL')
    await stopInstance(spec, { logger })
    expect(await findServerProcesses({ ...spec, uid: spec.user.uid })).to.deep.equal([])
  })

  it('omits settings that this machine does not support, with a warning', async () => {
    const { spec, sql } = await mount()
    const elsewhere = {
      lc_messages: 'xx_XX.UTF-8',
      lc_monetary: 'xx_XX.UTF-8',
      lc_time: 'xx_XX.UTF-8',
      timezone: 'Zz/Prod',
      log_timezone: 'Zz/Prod',
      timezone_abbreviations: 'Mine',
      max_stack_depth: '100GB',
      foo_unknown_setting: 'on',
      work_mem: 'plenty',
      maintenance_work_mem: '33MB',
    }
    const lines = Object.entries(elsewhere).map(([name, value]) => `${name} = '${value}'\n`)
    await appendFile(inData('postgresql.conf'), lines.slice(0, 5).join(''))
    await appendFile(inData('postgresql.auto.conf'), lines.slice(5).join(''))
    const { warnings } = await startInstance(spec, { logger, syncMount })
    const said = warnings.filter((warning) => warning.includes('was left out'))
    for (const name of [
      'lc_monetary',
      'lc_time',
      'timezone',
      'timezone_abbreviations',
      'foo_unknown_setting',
      'work_mem',
    ])
      expect(
        said.some((warning) => warning.includes(`${name} = '`)),
        name,
      ).to.equal(true)
    expect(said).to.have.length(6)
    expect(said.join()).to.include("lc_monetary = 'xx_XX.UTF-8'").and.to.include('--setting lc_monetary=')
    expect(await sql('SHOW maintenance_work_mem; SHOW lc_monetary; SHOW work_mem')).to.equal('33MB\nC\n4MB')
  })

  it("takes a user's value for a setting that this machine does not support as in production", async () => {
    const { spec, sql } = await mount(LATEST, { settings: { timezone: 'UTC' } })
    await appendFile(inData('postgresql.auto.conf'), "timezone = 'Zz/Prod'\n")
    const { warnings } = await startInstance(spec, { logger, syncMount })
    expect(warnings.join()).not.to.include('timezone')
    expect(await sql('SHOW timezone')).to.equal('UTC')
  })

  it('keeps settings of ALTER SYSTEM across restarts, except those that would contact production', async () => {
    const { spec, sql } = await mount({ type: 'immediate' })
    await appendFile(inData('postgresql.auto.conf'), "work_mem = '5MB'\nmaintenance_work_mem = '6MB'\n")
    await startInstance(spec, { logger, syncMount })
    expect(await sql('SHOW work_mem; SHOW maintenance_work_mem')).to.equal('5MB\n6MB')
    for (const set of [
      "work_mem = '9MB'",
      "shared_buffers = '32MB'",
      "archive_mode = 'on'",
      'max_logical_replication_workers = 4',
      "shared_preload_libraries = 'pg_prewarm'",
      'fsync = off',
    ])
      await sql(`ALTER SYSTEM SET ${set}`)
    const before = await readFile(instancePaths(spec).configFile, 'utf8')
    await sql('SELECT pg_reload_conf()')
    await stopInstance(spec, { logger })
    await startInstance(spec, { logger, syncMount })
    expect(await sql('SHOW work_mem; SHOW maintenance_work_mem; SHOW shared_buffers')).to.equal(
      '9MB\n6MB\n32MB',
    )
    expect(
      await sql(
        'SHOW archive_mode; SHOW max_logical_replication_workers; SHOW shared_preload_libraries; SHOW fsync',
      ),
    ).to.equal('off\n0\n\non')
    expect(before).to.include('fsync = on')
  })

  it('has what a user gave on no command line, and in force whatever ALTER SYSTEM says', async () => {
    const { spec, sql } = await mount(
      { type: 'immediate' },
      {
        listen: ['127.0.0.53'],
        settings: {
          default_transaction_isolation: 'serializable',
          'app.secret': 'hunter2',
          archive_timeout: '77',
        },
      },
    )
    await startInstance(spec, { logger, syncMount })
    const pid = (await readRecord(spec))?.pid
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8')
    expect(commandLine).to.include('archive_command=')
    for (const value of ['127.0.0.53', 'hunter2', 'serializable', 'immediate', 'archive_timeout'])
      expect(commandLine).not.to.include(value)
    const { configFile } = instancePaths(spec)
    const { mode, uid } = await stat(configFile)
    expect([mode & 0o777, uid]).to.deep.equal([0o600, spec.user.uid])
    const shown =
      'SHOW listen_addresses; SHOW "app.secret"; SHOW default_transaction_isolation; SHOW archive_mode'
    expect(await sql(shown)).to.equal('127.0.0.53\nhunter2\nserializable\noff')
    for (const set of [
      "listen_addresses = '*'",
      'Archive_Timeout = 55',
      "archive_mode = 'on'",
      "work_mem = '9MB'",
    ])
      await sql(`ALTER SYSTEM SET ${set}`)
    await stopInstance(spec, { logger })
    await startInstance(spec, { logger, syncMount })
    expect(await sql(shown)).to.equal('127.0.0.53\nhunter2\nserializable\noff')
    expect(await sql('SHOW archive_timeout; SHOW work_mem')).to.equal('77s\n9MB')
  })

  it('reloads its configuration without a message', async () => {
    const { spec } = await mount()
    await appendFile(inData('postgresql.conf'), "port = 5432\nlisten_addresses = '*'\nmax_connections = 55\n")
    await startInstance(spec, { logger, syncMount })
    // It reloaded its configuration when its first recovery had finished.
    const log = await readFile(instancePaths(spec).log, 'utf8')
    expect(log).to.include('received SIGHUP')
    expect(log).not.to.match(/contains errors|cannot be changed/)
  })

  it("has a log that is parsed whatever production's log settings are", async () => {
    const { spec } = await mount({ type: 'name', value: 'never-made' })
    await appendFile(
      inData('postgresql.auto.conf'),
      "log_error_verbosity = 'verbose'\nlog_min_messages = 'panic'\nlog_line_prefix = '%q'\nlog_destination = 'syslog'\n",
    )
    const error = await expectFailure(spec, 'target_unreachable')
    expect(error.message).to.include('never-made')
  })
})

describe('A published instance of a backup without postgresql.conf', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined

  before(async () => {
    const origins = `SELECT pg_replication_origin_create('hub-' || i) FROM generate_series(1, 15) AS i;
      SELECT pg_replication_origin_advance('hub-' || i, '0/1') FROM generate_series(1, 15) AS i`
    backup = await makeBackup({
      configuration: 'outside',
      settings: { fsync: 'on', max_connections: '250', max_replication_slots: '40' },
      before: [origins],
    })
  })
  after(async () => {
    await published?.remove()
    await backup?.remove()
  })

  it('starts with a generated one and with the limits of production', async () => {
    published = await mountCopy(backup)
    await startInstance(published.spec, { logger, syncMount })
    expect(await published.sql('SHOW max_connections')).to.equal('250')
    expect(await published.sql('SELECT count(*) FROM pg_replication_origin_status')).to.equal('15')
    expect(await published.sql('SHOW config_file')).to.equal(
      `${published.spec.cachePath}/conf/postgresql.conf`,
    )
    expect(await published.sql('SELECT count(*) FROM t')).to.equal('1500')
  })
})
