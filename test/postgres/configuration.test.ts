import { hostname } from 'node:os'
import { expect } from 'chai'
import { parseConfiguration, parseList } from '../../agents/runtime/postgresql-conf.ts'
import { parseMemory } from '../../agents/target/postgres/settings/backup-configuration.ts'
import {
  type ConfigurationInput,
  configFile,
  instanceSettings,
  postgresArguments,
  withFsync,
} from '../../agents/target/postgres/settings/configuration.ts'
import { hbaFile } from '../../agents/target/postgres/settings/host-based-access.ts'
import { exceeds, limitsOf } from '../../agents/target/postgres/settings/limits.ts'
import { clientHost, listenAddresses } from '../../agents/target/postgres/settings/listening.ts'
import { decidePreload } from '../../agents/target/postgres/settings/preload-libraries.ts'
import {
  recoveryFile,
  recoveryRequest,
  recoverySettings,
  recoveryTarget,
} from '../../agents/target/postgres/settings/recovery-settings.ts'
import { userSettings } from '../../agents/target/postgres/settings/user-settings.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import type { RecoverTo } from '../../messages/values.ts'

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

const CONTROL = { limits: {}, walSegmentBytes: 16 * 1024 ** 2 }

function inputOf(
  backup: Record<string, string> = {},
  changes: Partial<ConfigurationInput> = {},
): ConfigurationInput {
  return {
    spec: specOf(),
    backup: new Map(Object.entries(backup)),
    control: CONTROL,
    memory: { total: 16 * GB, freeHugePages: 0 },
    preload: new Map(),
    recovered: false,
    ...changes,
  }
}

const fixedOf = (input: ConfigurationInput) => instanceSettings(input).fixed
const initialOf = (input: ConfigurationInput) => instanceSettings(input).initial

describe('The settings of a published instance', () => {
  it('are only parameters of the major version', () => {
    const names = (version: string) => [...fixedOf(inputOf({}, { spec: specOf({ version }) })).keys()]
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
    const limits = { max_connections: 300, max_worker_processes: 8, max_wal_senders: 10 }
    const settings = initialOf(
      inputOf({ max_connections: '20', max_worker_processes: '50' }, { control: { ...CONTROL, limits } }),
    )
    expect(settings.get('max_connections')).to.equal('300')
    expect(settings.get('max_worker_processes')).to.equal('50')
    expect(settings.has('max_wal_senders')).to.equal(false)
    expect(exceeds(limits, limitsOf(settings, specOf()))).to.equal(false)
    expect(exceeds({ ...limits, max_connections: 301 }, limitsOf(settings, specOf()))).to.equal(true)
  })

  it('allow for replication origins, which pg_control does not record', () => {
    const of = (name: string, version: string, backup: Record<string, string> = {}) =>
      initialOf(inputOf(backup, { spec: specOf({ version }) })).get(name)
    expect(of('max_replication_slots', '15')).to.equal('500')
    expect(of('max_replication_slots', '15', { max_replication_slots: '20' })).to.equal('500')
    expect(of('max_replication_slots', '15', { max_replication_slots: '900' })).to.equal('900')
    expect(of('max_active_replication_origins', '18')).to.equal('500')
    expect(of('max_replication_slots', '18')).to.equal(undefined)
  })

  it('leave connections for Howdah and the jobs of an export where production allowed very few', () => {
    const control = { ...CONTROL, limits: {} }
    const of = (max_connections: string) =>
      initialOf(inputOf({ max_connections }, { control })).get('max_connections')
    expect(of('3')).to.equal('30')
    expect(of('40')).to.equal('40')
  })

  it('do not raise a limit that the user has set', () => {
    const spec = specOf({ settings: { max_connections: '20' } })
    const settings = initialOf(
      inputOf({}, { spec, control: { ...CONTROL, limits: { max_connections: 300 } } }),
    )
    expect(settings.get('max_connections')).to.equal('20')
    expect(exceeds({ max_connections: 300 }, limitsOf(settings, spec))).to.equal(false)
  })

  it('raise wal_level too where WAL senders would otherwise be refused', () => {
    const control = { ...CONTROL, limits: { max_wal_senders: 10 } }
    const settings = initialOf(inputOf({ wal_level: 'minimal', max_wal_senders: '0' }, { control }))
    expect(settings.get('wal_level')).to.equal('replica')
  })

  it('limit WAL to an eighth of the free disk space, but at least four segments', () => {
    const of = (
      freeDisk: number,
      settings: Record<string, string> = {},
      walSegmentBytes = 16 * 1024 ** 2,
    ) => {
      const made = initialOf(inputOf(settings, { freeDisk, control: { ...CONTROL, walSegmentBytes } }))
      return [made.get('max_wal_size'), made.get('min_wal_size')]
    }
    expect(of(100 * GB)).to.deep.equal([undefined, undefined])
    expect(of(100 * GB, { max_wal_size: '64GB', min_wal_size: '4GB' })).to.deep.equal(['12800MB', '4GB'])
    expect(of(4 * GB)).to.deep.equal(['512MB', undefined])
    expect(of(GB / 4)).to.deep.equal(['64MB', '64MB'])
    expect(of(GB, { max_wal_size: '300' }, 64 * 1024 ** 2)).to.deep.equal(['256MB', '128MB'])
    expect(of(100 * GB, {}, GB)).to.deep.equal(['2048MB', '2048MB'])
  })

  it('limit WAL to what is set aside for it in the write cache, but at least four segments', () => {
    const of = (walBytes: number, settings: Record<string, string> = {}) =>
      initialOf(inputOf(settings, { freeDisk: 100 * GB, walBytes })).get('max_wal_size')
    expect(of(GB, { max_wal_size: '64GB' })).to.equal('1024MB')
    expect(of(GB / 4)).to.equal('256MB')
    expect(of(GB / 4, { max_wal_size: '100MB' })).to.equal('100MB')
    expect(of(1)).to.equal('64MB')
  })

  it('use at most a quarter of the memory', () => {
    expect(initialOf(inputOf({ shared_buffers: '64GB' })).get('shared_buffers')).to.equal('4194304kB')
    expect(initialOf(inputOf({ shared_buffers: '2GB' })).get('shared_buffers')).to.equal('2GB')
  })

  it('limit the stack depth to that of this machine', () => {
    const memory = { total: 16 * GB, freeHugePages: 0, stack: 8 * 1024 ** 2 }
    const of = (depth: string) =>
      initialOf(inputOf({ max_stack_depth: depth }, { memory })).get('max_stack_depth')
    expect(of('30MB')).to.equal('7680kB')
    expect(of('64000')).to.equal('7680kB')
    expect(of('4MB')).to.equal('4MB')
  })

  it('try huge pages only if there are free ones', () => {
    expect(initialOf(inputOf({ huge_pages: 'on' })).get('huge_pages')).to.equal('off')
    const memory = { total: 16 * GB, freeHugePages: GB }
    expect(initialOf(inputOf({ huge_pages: 'on' }, { memory })).get('huge_pages')).to.equal('try')
  })

  it('are on the command line or in the file, never in both', () => {
    const backup = {
      port: '5432',
      lc_messages: 'de_DE',
      ssl: 'on',
      fsync: 'off',
      work_mem: '8MB',
    }
    const { fixed, initial, given } = instanceSettings(
      inputOf(backup, { spec: specOf({ settings: { SSL: 'on' } }) }),
    )
    for (const name of ['port', 'lc_messages', 'ssl', 'fsync', 'archive_command'])
      expect(initial.has(name), name).to.equal(false)
    expect(initial.get('work_mem')).to.equal('8MB')
    expect([...given]).to.deep.equal([['ssl', 'on']])
    expect(fixed.has('ssl')).to.equal(false)
  })

  it('are never on the command line if the user gave them', () => {
    const spec = specOf({
      listen: ['10.0.0.7'],
      recoverTo: { type: 'name', value: 'before the layoffs' },
      settings: {
        ssl: 'on',
        work_mem: '7777kB',
        default_transaction_read_only: 'on',
        'app.secret': 'hunter2',
      },
    })
    const { fixed, initial, given } = instanceSettings(inputOf({ listen_addresses: '*' }, { spec }))
    expect([...given]).to.deep.equal([
      ['recovery_target_name', 'before the layoffs'],
      ['listen_addresses', '10.0.0.7'],
      ['ssl', 'on'],
      ['default_transaction_read_only', 'on'],
    ])
    expect(initial.get('app.secret')).to.equal('hunter2')
    const args = postgresArguments(spec, fixed).join('\n')
    for (const value of ['10.0.0.7', 'layoffs', '7777kB', 'hunter2', 'ssl=on', 'read_only=on'])
      expect(args).not.to.include(value)
    // Without a request they are Howdah's own.
    expect(fixedOf(inputOf()).get('listen_addresses')).to.equal('localhost')
    expect(fixedOf(inputOf()).get('ssl')).to.equal('off')
  })

  it('become arguments that need no shell quoting', () => {
    const args = postgresArguments(specOf(), fixedOf(inputOf()))
    expect(args.slice(0, 4)).to.deep.equal([
      '-D',
      '/tmp/howdah/shop-1/data',
      '-c',
      'config_file=/var/tmp/howdah/shop-1/conf/postgresql.conf',
    ])
    expect(args).to.include('archive_command=')
  })

  it('have those of the backup in a file, and fsync off only until recovery is finished', () => {
    const settings = new Map([
      ['work_mem', '8MB'],
      ['x.y', "it's \\ 1\n2"],
    ])
    const lines = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    const file = configFile(specOf(), settings, false)
    expect(lines(file)).to.deep.equal([
      "work_mem = '8MB'",
      "x.y = 'it''s \\\\ 1\\n2'",
      'fsync = off',
      'restart_after_crash = off',
    ])
    expect(lines(withFsync(file)).slice(-2)).to.deep.equal(['fsync = on', 'restart_after_crash = on'])
    expect(parseConfiguration(file).find(({ name }) => name === 'x.y')?.value).to.equal("it's \\ 1\n2")
    expect(configFile(specOf(), settings, true)).not.to.include('fsync')
    expect(fixedOf(inputOf()).has('fsync')).to.equal(false)
    expect(fixedOf(inputOf({}, { recovered: true })).get('fsync')).to.equal('on')
    expect(fixedOf(inputOf({}, { recovered: true })).get('restart_after_crash')).to.equal('on')
  })

  it('accept read-only connections before promotion only if recovery is to pause', () => {
    const of = (changes: Partial<InstanceSpec>) =>
      fixedOf(inputOf({ hot_standby: 'on' }, { spec: specOf(changes) })).get('hot_standby')
    expect(of({})).to.equal('off')
    expect(of({ afterRecovery: 'pause' })).to.equal('on')
  })

  it('are those of the user, whatever the backup or Howdah set', () => {
    const settings = { SSL: 'on', work_mem: '64MB', shared_buffers: '1GB' }
    const { given, initial } = instanceSettings(
      inputOf({ shared_buffers: '64GB' }, { spec: specOf({ settings }) }),
    )
    expect(given.get('ssl')).to.equal('on')
    expect(initial.get('work_mem')).to.equal('64MB')
    expect(initial.get('shared_buffers')).to.equal('1GB')
  })

  it('refuse those that Howdah depends on, by name', () => {
    for (const name of ['port', 'Data_Directory', 'recovery_target_time', 'restore_command', 'hba_file'])
      expect(() => userSettings({ settings: { [name]: 'x' } })).to.throw(name.toLowerCase())
  })

  it('refuse those that would disable the quarantine or the parsing of the log', () => {
    const undoing = {
      max_logical_replication_workers: '4',
      archive_mode: 'on',
      archive_library: 'basic_archive',
      recovery_end_command: 'true',
      ssl_passphrase_command: 'cat /etc/secret',
      wal_receiver_timeout: '1s',
      synchronous_standby_names: '*',
      log_error_verbosity: 'verbose',
      lc_messages: 'de_DE.UTF-8',
      'citus.cluster_name': 'default',
    }
    for (const [name, value] of Object.entries(undoing))
      expect(() => userSettings({ settings: { [name]: value } }), name).to.throw('cannot be set')
    expect([...userSettings({ settings: { max_logical_replication_workers: '0' } })]).to.have.length(1)
  })

  it('allow no connection over TCP without a password, and no replication', () => {
    expect(hbaFile(specOf())).to.match(/^host +all all 127\.0\.0\.1\/32 md5$/m)
    expect(hbaFile(specOf())).not.to.include('replication')
    expect(hbaFile(specOf({ version: '9.6' }))).to.match(/^host +all all ::1\/128 md5$/m)
  })

  it("accept other machines by password where the instance listens on their network, or by the user's pg_hba.conf", () => {
    expect(hbaFile(specOf({ listen: ['*'] }))).to.match(/^host +all all 0\.0\.0\.0\/0 md5$/m)
    const given = hbaFile(specOf({ listen: ['*'], hba: 'hostssl shop app 10.0.0.0/8 cert' }))
    expect(given).to.match(/^local all all trust\nhostssl shop app 10\.0\.0\.0\/8 cert\n$/m)
    expect(given).not.to.include('scram')
  })

  it('report an address that clients can use', () => {
    expect(listenAddresses({})).to.equal('localhost')
    expect(clientHost({ listen: ['127.0.0.1', 'localhost'] })).to.equal(undefined)
    expect(clientHost({ listen: ['localhost', '10.0.0.7'] })).to.equal('10.0.0.7')
    expect(clientHost({ listen: ['*', 'db-7.example'] })).to.equal('db-7.example')
    expect(clientHost({ listen: ['*'] })).to.equal(hostname())
    expect(() => listenAddresses({ listen: ['a,b'] })).to.throw('"a,b"')
  })
})

describe('Recovery settings', () => {
  it('are refused for an invalid value', () => {
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

  it('make an instance that is to pause a standby without a primary', () => {
    const pause = (version: string) => recoveryRequest(specOf({ version, afterRecovery: 'pause' }))
    expect(pause('15').name).to.equal('standby.signal')
    expect(pause('11')).to.deep.include({ name: 'recovery.conf' })
    expect(pause('11').text).to.include("standby_mode = 'on'")
    expect(recoveryRequest(specOf()).name).to.equal('recovery.signal')
    const settings = recoverySettings(specOf({ afterRecovery: 'pause' }))
    expect(settings.get('recovery_target_action')).to.equal('pause')
  })

  /** In the order in which PostgreSQL gets them: command line, then file. */
  const settingsFor = (recoverTo: RecoverTo) => {
    const { name, value } = recoveryTarget(specOf({ recoverTo }))
    return new Map([
      ...recoverySettings(specOf({ recoverTo })),
      ...(name === undefined ? [] : [[name, value] as const]),
    ])
  }

  it('clear every other target before they set one', () => {
    const settings = settingsFor({ type: 'immediate' })
    const targets = [...settings].filter(([name]) => /^recovery_target(_name|_time|_xid|_lsn)?$/.test(name))
    expect(targets.at(-1)).to.deep.equal(['recovery_target', 'immediate'])
    expect(targets.slice(0, -1).map(([, value]) => value)).to.deep.equal(['', '', '', ''])
    expect(settings.get('recovery_target_timeline')).to.equal('current')
  })

  it('have time, timeline and exclusiveness as requested', () => {
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
      `if [ -e '/tmp/howdah/shop-1/wal'/%f ] && mv -f -- ${quoted}ready_wal'/%f "%p" 2> /dev/null; then echo 'howdah: restored %f' >&2; else exec /bin/sh ${quoted}conf/restore-wal.sh' %f "%p"; fi`,
    )
  })

  it('are a recovery.conf without the value "current" before version 12', () => {
    const file = recoveryFile(specOf({ version: '11', recoverTo: { type: 'immediate' } }))
    expect(file).to.include("recovery_target = 'immediate'\n")
    expect(file).not.to.include('timeline')
    expect(recoveryFile(specOf({ version: '11' }))).to.include("recovery_target_timeline = 'latest'\n")
  })
})

describe('The configuration of a backup', () => {
  it('is read as PostgreSQL reads it', () => {
    const text = `# comment
max_connections = 100 # (change requires restart)
 Shared_Buffers '1GB'
archive_command='cp %p ''/a b''/%f' # quotes
empty = ''
broken line here
timescaledb.telemetry_level=off
escaped = 'a\\tb\\\\c\\101'
`
    const unreadable: number[] = []
    expect(parseConfiguration(text, (line) => unreadable.push(line))).to.deep.equal([
      { name: 'max_connections', value: '100' },
      { name: 'shared_buffers', value: '1GB' },
      { name: 'archive_command', value: "cp %p '/a b'/%f" },
      { name: 'empty', value: '' },
      { name: 'timescaledb.telemetry_level', value: 'off' },
      { name: 'escaped', value: 'a\tb\\cA' },
    ])
    expect(unreadable).to.deep.equal([6])
  })

  it('has memory with units and lists with quotes', () => {
    expect(parseMemory('16384', 8192)).to.equal(128 * 1024 ** 2)
    expect(parseMemory('1.5GB', 8192)).to.equal(1.5 * GB)
    expect(parseMemory('much', 8192)).to.equal(undefined)
    expect(parseList(' a, "B c" ,,d')).to.deep.equal(['a', 'B c', 'd'])
  })
})

describe('Preloaded libraries', () => {
  const decide = (
    list: string,
    exists: boolean,
    chosen: Record<string, string> = {},
    extensions: readonly string[] = [],
  ) =>
    decidePreload(
      new Map([['shared_preload_libraries', list]]),
      extensions,
      new Map(Object.entries(chosen)),
      async () => exists,
    )

  it('that act on their own or are unknown are omitted, and others configured to be passive', async () => {
    const { settings, warnings } = await decide('timescaledb,pg_cron,$libdir/pglogical,in_house', true)
    expect(settings.get('shared_preload_libraries')).to.equal('timescaledb')
    expect(settings.get('timescaledb.max_background_workers')).to.equal('0')
    expect(warnings).to.have.length(1)
    expect(warnings[0]).to.match(
      /pg_cron \(it would run production jobs\), .*pglogical .*in_house \(it is not known/,
    )
    expect(warnings[0]).to.include('--setting shared_preload_libraries=timescaledb,…')
  })

  it('that are passive are loaded, and none that ALTER SYSTEM adds', async () => {
    const { settings, warnings } = await decide('auto_explain, pg_stat_statements', true)
    expect([...settings]).to.deep.equal([['shared_preload_libraries', 'auto_explain,pg_stat_statements']])
    expect(warnings).to.deep.equal([])
    expect((await decide('', true)).settings.get('shared_preload_libraries')).to.equal('')
  })

  it('that the user requests are loaded in any case, and configured to be passive where possible', async () => {
    const chosen = { shared_preload_libraries: 'citus,pg_cron' }
    const { settings, warnings } = await decide('citus,pg_cron,bdr', true, chosen)
    expect(settings.has('shared_preload_libraries')).to.equal(false)
    expect(settings.get('citus.cluster_name')).to.equal('howdah')
    expect(warnings).to.deep.equal([])
    const error = await decide('', false, chosen).catch((reason: unknown) => reason)
    expect(error).to.include({ code: 'configuration', field: 'settings.shared_preload_libraries' })
  })

  it('of Citus know no node of production', async () => {
    expect((await decide('citus', true)).settings.get('citus.cluster_name')).to.equal('howdah')
  })

  it("that an extension needs are loaded although production's list is not in the backup", async () => {
    const extensions = ['plpgsql', 'postgis', 'timescaledb', 'citus']
    const { settings } = await decide('pg_stat_statements', true, {}, extensions)
    expect(settings.get('shared_preload_libraries')).to.equal('citus,timescaledb,pg_stat_statements')
    expect(settings.get('timescaledb.max_background_workers')).to.equal('0')
    const listed = await decide('auto_explain,$libdir/timescaledb', true, {}, ['timescaledb'])
    expect(listed.settings.get('shared_preload_libraries')).to.equal('auto_explain,"$libdir/timescaledb"')
  })

  it('that own data must be installed', async () => {
    const error = await decide('citus', false).catch((reason: unknown) => reason)
    expect(error).to.have.property('code', 'library_missing')
  })
})
