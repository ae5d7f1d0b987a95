import { hostname } from 'node:os'
import { expect } from 'chai'
import {
  parseConfiguration,
  parseList,
  parseMemory,
} from '../../agents/target/postgres/backup-configuration.ts'
import {
  type ConfigurationInput,
  configFile,
  instanceSettings,
  postgresArguments,
  withSync,
} from '../../agents/target/postgres/configuration.ts'
import { parseControlData } from '../../agents/target/postgres/control-data.ts'
import { hbaFile } from '../../agents/target/postgres/host-based-access.ts'
import { clientHost, listenAddresses } from '../../agents/target/postgres/listening.ts'
import { decidePreload } from '../../agents/target/postgres/preload-libraries.ts'
import {
  recoveryFile,
  recoveryRequest,
  recoverySettings,
} from '../../agents/target/postgres/recovery-settings.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { userSettings } from '../../agents/target/postgres/user-settings.ts'
import type { RecoverTo } from '../../messages/definitions.ts'

const GB = 1024 ** 3

function specOf(changes: Partial<InstanceSpec> = {}): InstanceSpec {
  return {
    session: 'shop-1',
    mountPoint: '/tmp/howdah/shop-1',
    cachePath: '/var/tmp/howdah/shop-1',
    binaries: '/usr/lib/postgresql/15/bin',
    version: '15',
    user: { name: 'postgres', uid: 101, gid: 104 },
    port: 54321,
    recoverTo: { type: 'latest' },
    ...changes,
  }
}

function inputOf(
  settings: Record<string, string> = {},
  changes: Partial<ConfigurationInput> = {},
): ConfigurationInput {
  return {
    spec: specOf(),
    backup: backupOf(settings),
    control: {},
    memory: { total: 16 * GB, freeHugePages: 0 },
    preload: new Map(),
    ...changes,
  }
}

function backupOf(
  files: Record<string, string>,
  automatic: Record<string, string> = {},
): ConfigurationInput['backup'] {
  const [inFiles, inAutomatic] = [new Map(Object.entries(files)), new Map(Object.entries(automatic))]
  return {
    settings: new Map([...inFiles, ...inAutomatic]),
    files: inFiles,
    automatic: inAutomatic,
    leftOut: [],
  }
}

describe('The settings of a published instance', () => {
  it('are only those that the major version has', () => {
    const names = (version: string) => [
      ...instanceSettings(inputOf({}, { spec: specOf({ version }) })).keys(),
    ]
    expect(names('9.6')).to.include.members(['wal_keep_segments', 'stats_temp_directory'])
    expect(names('9.6')).not.to.include.members(['restore_command'])
    expect(names('9.6')).not.to.include('max_logical_replication_workers')
    expect(names('13')).to.include.members(['wal_keep_size', 'restore_command', 'promote_trigger_file'])
    expect(names('13')).not.to.include('recovery_init_sync_method')
    expect(names('15')).to.include.members(['archive_library', 'recovery_init_sync_method'])
    expect(names('15')).not.to.include('sync_replication_slots')
    expect(names('18')).to.include.members(['io_method', 'sync_replication_slots'])
    expect(names('18')).not.to.include('stats_temp_directory')
  })

  it('raise a limit to what pg_control asks for and leave a higher one alone', () => {
    const settings = instanceSettings(
      inputOf(
        { max_connections: '20', max_worker_processes: '50' },
        { control: { max_connections: 300, max_worker_processes: 8, max_wal_senders: 10 } },
      ),
    )
    expect(settings.get('max_connections')).to.equal('300')
    expect(settings.has('max_worker_processes')).to.equal(false)
    expect(settings.has('max_wal_senders')).to.equal(false)
  })

  it('raise wal_level too where WAL senders would otherwise be refused', () => {
    const settings = instanceSettings(
      inputOf({ wal_level: 'minimal', max_wal_senders: '0' }, { control: { max_wal_senders: 10 } }),
    )
    expect(settings.get('wal_level')).to.equal('replica')
  })

  it('let WAL take an eighth of the free disk, and four segments where that is less', () => {
    const of = (
      freeDisk: number,
      settings: Record<string, string> = {},
      walSegmentBytes = 16 * 1024 ** 2,
    ) => {
      const made = instanceSettings(inputOf(settings, { freeDisk, control: { walSegmentBytes } }))
      return [made.get('max_wal_size'), made.get('min_wal_size')]
    }
    expect(of(100 * GB)).to.deep.equal([undefined, undefined])
    expect(of(100 * GB, { max_wal_size: '64GB', min_wal_size: '4GB' })).to.deep.equal(['12800MB', undefined])
    expect(of(4 * GB)).to.deep.equal(['512MB', undefined])
    expect(of(GB / 4)).to.deep.equal(['64MB', '64MB'])
    expect(of(GB, { max_wal_size: '300' }, 64 * 1024 ** 2)).to.deep.equal(['256MB', undefined])
  })

  it('take at most a quarter of the memory', () => {
    expect(instanceSettings(inputOf({ shared_buffers: '64GB' })).get('shared_buffers')).to.equal('4194304kB')
    expect(instanceSettings(inputOf({ shared_buffers: '2GB' })).has('shared_buffers')).to.equal(false)
  })

  it('try huge pages only where there are some', () => {
    expect(instanceSettings(inputOf({ huge_pages: 'on' })).get('huge_pages')).to.equal('off')
    const memory = { total: 16 * GB, freeHugePages: GB }
    expect(instanceSettings(inputOf({ huge_pages: 'on' }, { memory })).get('huge_pages')).to.equal('try')
  })

  it('become arguments that no shell takes apart', () => {
    const args = postgresArguments(inputOf())
    expect(args.slice(0, 4)).to.deep.equal([
      '-D',
      '/tmp/howdah/shop-1/data',
      '-c',
      'config_file=/var/tmp/howdah/shop-1/conf/postgresql.conf',
    ])
    expect(args).to.include('archive_command=')
  })

  it('have those of the backup in a file, go without fsync until recovery is done, and never after', () => {
    const file = configFile(
      specOf(),
      new Map([
        ['fsync', 'off'],
        ['work_mem', '8MB'],
        ['x.y', "it's \\ 1"],
      ]),
      false,
    )
    const lines = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    expect(lines(file)).to.deep.equal(["work_mem = '8MB'", "x.y = 'it''s \\\\ 1'", 'fsync = off'])
    expect(lines(withSync(file)).at(-1)).to.equal('fsync = on')
    expect(parseConfiguration(file).find(({ name }) => name === 'x.y')?.value).to.equal("it's \\ 1")
  })

  it('keep fsync on from the start where postgresql.auto.conf would turn it off again', () => {
    const of = (backup: ConfigurationInput['backup']) =>
      instanceSettings(inputOf({}, { backup })).get('fsync')
    expect(of(backupOf({}, { fsync: 'off' }))).to.equal('on')
    expect(of(backupOf({ fsync: 'off' }))).to.equal(undefined)
  })

  it('let readers in before promotion only where recovery is to pause', () => {
    const of = (changes: Partial<InstanceSpec>) =>
      instanceSettings(inputOf({ hot_standby: 'on' }, { spec: specOf(changes) })).get('hot_standby')
    expect(of({})).to.equal('off')
    expect(of({ afterRecovery: 'pause' })).to.equal('on')
  })

  it('are those that the user gives, whatever the backup or Howdah say', () => {
    const settings = { SSL: 'on', work_mem: '64MB', shared_buffers: '1GB' }
    const made = instanceSettings(inputOf({ shared_buffers: '64GB' }, { spec: specOf({ settings }) }))
    expect(made.get('ssl')).to.equal('on')
    expect(made.get('work_mem')).to.equal('64MB')
    expect(made.get('shared_buffers')).to.equal('1GB')
  })

  it('refuse those that Howdah works by, naming them', () => {
    for (const name of ['port', 'Data_Directory', 'recovery_target_time', 'restore_command', 'hba_file'])
      expect(() => userSettings({ settings: { [name]: 'x' } })).to.throw(name.toLowerCase())
  })

  it('let nobody in over TCP without a password and nobody replicate', () => {
    expect(hbaFile(specOf())).to.match(/^host +all all 127\.0\.0\.1\/32 md5$/m)
    expect(hbaFile(specOf())).not.to.include('replication')
    expect(hbaFile(specOf({ version: '9.6' }))).to.match(/^host +all all ::1\/128 md5$/m)
  })

  it('let others in by password where the instance listens for them, and by what the user gives instead', () => {
    expect(hbaFile(specOf({ listen: ['*'] }))).to.match(/^host +all all 0\.0\.0\.0\/0 md5$/m)
    const given = hbaFile(specOf({ listen: ['*'], hba: 'hostssl shop app 10.0.0.0/8 cert' }))
    expect(given).to.match(/^local all all trust\nhostssl shop app 10\.0\.0\.0\/8 cert\n$/m)
    expect(given).not.to.include('scram')
  })

  it('tell clients an address that they can use', () => {
    expect(listenAddresses({})).to.equal('localhost')
    expect(clientHost({ listen: ['127.0.0.1', 'localhost'] })).to.equal(undefined)
    expect(clientHost({ listen: ['localhost', '10.0.0.7'] })).to.equal('10.0.0.7')
    expect(clientHost({ listen: ['*', 'db-7.example'] })).to.equal('db-7.example')
    expect(clientHost({ listen: ['*'] })).to.equal(hostname())
    expect(() => listenAddresses({ listen: ['a,b'] })).to.throw('"a,b"')
  })
})

describe('Recovery settings', () => {
  it('are refused for a value that is none of its type', () => {
    const wrong: RecoverTo[] = [
      { type: 'lsn', value: '3000148' },
      { type: 'xid', value: 'seven' },
      { type: 'time', value: '2026-01-02' },
      { type: 'time', value: '2026-01-02 03:04:05' },
      { type: 'name', value: 'two\nlines' },
      { type: 'lsn' },
    ]
    for (const recoverTo of wrong) expect(() => settingsFor(recoverTo)).to.throw(recoverTo.type)
    for (const value of ['2026-01-02 03:04 Europe/Berlin', '2026-01-02 03:04:05.5-03:30'])
      expect(settingsFor({ type: 'time', value }).get('recovery_target_time')).to.equal(value)
    const zulu = settingsFor({ type: 'time', value: '2026-01-02T03:04:05Z' })
    expect(zulu.get('recovery_target_time')).to.equal('2026-01-02T03:04:05+00:00')
  })

  it('make a standby without a primary of an instance that is to pause', () => {
    const pause = (version: string) => recoveryRequest(specOf({ version, afterRecovery: 'pause' }))
    expect(pause('15').name).to.equal('standby.signal')
    expect(pause('11')).to.deep.include({ name: 'recovery.conf' })
    expect(pause('11').text).to.include("standby_mode = 'on'")
    expect(recoveryRequest(specOf()).name).to.equal('recovery.signal')
    const settings = recoverySettings(specOf({ afterRecovery: 'pause' }))
    expect(settings.get('recovery_target_action')).to.equal('pause')
  })

  const settingsFor = (recoverTo: RecoverTo) => recoverySettings(specOf({ recoverTo }))

  it('clear every other target before they set one', () => {
    const settings = settingsFor({ type: 'immediate' })
    const targets = [...settings].filter(([name]) => /^recovery_target(_name|_time|_xid|_lsn)?$/.test(name))
    expect(targets.at(-1)).to.deep.equal(['recovery_target', 'immediate'])
    expect(targets.slice(0, -1).map(([, value]) => value)).to.deep.equal(['', '', '', ''])
    expect(settings.get('recovery_target_timeline')).to.equal('current')
  })

  it('say time, timeline and exclusiveness as asked', () => {
    const settings = settingsFor({
      type: 'time',
      value: '2026-01-02 03:04:05+00',
      inclusive: false,
      timeline: 3,
    })
    expect(settings.get('recovery_target_time')).to.equal('2026-01-02 03:04:05+00')
    expect(settings.get('recovery_target_inclusive')).to.equal('off')
    expect(settings.get('recovery_target_timeline')).to.equal('3')
  })

  it('quote paths for the shell and for restore_command', () => {
    const command = recoverySettings(specOf({ cachePath: "/var/tmp/100% o'clock" })).get('restore_command')
    const quoted = String.raw`'/var/tmp/100%% o'\''clock/`
    expect(command).to.equal(
      `[ -e '/tmp/howdah/shop-1/wal'/%f ] && mv -f -- ${quoted}ready_wal'/%f "%p" 2> /dev/null || exec /bin/sh ${quoted}conf/restore-wal.sh' %f "%p"`,
    )
  })

  it('are a recovery.conf without the word "current" before version 12', () => {
    const file = recoveryFile(specOf({ version: '11', recoverTo: { type: 'immediate' } }))
    expect(file).to.include("recovery_target = 'immediate'\n")
    expect(file).not.to.include('timeline')
    expect(recoveryFile(specOf({ version: '11' }))).to.include("recovery_target_timeline = 'latest'\n")
  })
})

describe('The configuration that a backup brings', () => {
  it('is read as PostgreSQL reads it', () => {
    const text = `# comment
max_connections = 100 # (change requires restart)
 Shared_Buffers '1GB'
archive_command='cp %p ''/a b''/%f' # quotes
empty = ''
broken line here
timescaledb.telemetry_level=off
`
    expect(parseConfiguration(text)).to.deep.equal([
      { name: 'max_connections', value: '100' },
      { name: 'shared_buffers', value: '1GB' },
      { name: 'archive_command', value: "cp %p '/a b'/%f" },
      { name: 'empty', value: '' },
      { name: 'timescaledb.telemetry_level', value: 'off' },
    ])
  })

  it('has memory in units and lists with quotes', () => {
    expect(parseMemory('16384', 8192)).to.equal(128 * 1024 ** 2)
    expect(parseMemory('1.5GB', 8192)).to.equal(1.5 * GB)
    expect(parseMemory('much', 8192)).to.equal(undefined)
    expect(parseList(' a, "B c" ,,d')).to.deep.equal(['a', 'B c', 'd'])
  })

  it('has its limits in pg_control', () => {
    const output = `max_connections setting:              250\nmax_prepared_xacts setting:           5\nDate of dump: x\n`
    expect(parseControlData(output)).to.deep.equal({ max_connections: 250, max_prepared_transactions: 5 })
  })
})

describe('Preloaded libraries', () => {
  const decide = (list: string, exists: boolean) =>
    decidePreload(new Map([['shared_preload_libraries', list]]), async () => exists)

  it('that act on their own are left out, and others quieted', async () => {
    const { settings, warnings } = await decide('timescaledb,pg_cron,$libdir/pglogical', true)
    expect(settings.get('shared_preload_libraries')).to.equal('timescaledb')
    expect(settings.get('timescaledb.max_background_workers')).to.equal('0')
    expect(warnings).to.have.length(2)
  })

  it('are left as they are when nothing is wrong with them', async () => {
    const { settings, warnings } = await decide('auto_explain, pg_stat_statements', true)
    expect(settings.size + warnings.length).to.equal(0)
  })

  it('that own the data must be there', async () => {
    const error = await decide('citus', false).catch((reason: unknown) => reason)
    expect(error).to.have.property('code', 'library_missing')
  })
})
