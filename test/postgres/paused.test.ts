import { rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'chai'
import { findInstance, startInstance } from '../../agents/target/postgres/instance.ts'
import { stopInstance } from '../../agents/target/postgres/process/stop.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { RecoverResult } from '../../messages/steps.ts'
import type { RecoverTo } from '../../messages/values.ts'
import type { Cluster } from '../support/postgres-cluster.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from './backup.ts'

/** What production did after the backup: a row in `steps` each, with a restore point after it. */
interface Step {
  readonly lsn: string
  readonly xid: string
  readonly time: string
}

/** The data directory of these tests is a plain one, without a mount. */
const syncMount = async (): Promise<void> => undefined

describe('A recovery that is requested to pause', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined
  const steps: Step[] = []

  before(async () => {
    backup = await makeBackup({
      settings: { fsync: 'on', max_connections: '20' },
      before: ['CREATE TABLE steps (number int)'],
      after: async (cluster) => {
        for (const number of [1, 2, 3]) steps.push(await makeStep(cluster, number))
      },
    })
  })
  afterEach(async () => {
    await published?.remove()
    published = undefined
  })
  after(() => backup?.remove())

  async function makeStep(cluster: Cluster, number: number): Promise<Step> {
    const made = await cluster.sql(
      `BEGIN; INSERT INTO steps VALUES (${number}); SELECT txid_current(); COMMIT;
       SELECT clock_timestamp(); SELECT pg_current_wal_lsn(); SELECT pg_sleep(0.02);
       SELECT pg_create_restore_point('step-${number}') IS NULL \\g /dev/null`,
    )
    const [xid = '', time = '', lsn = ''] = made.split('\n')
    return { xid, time, lsn }
  }

  async function pausedAt(recoverTo: RecoverTo): Promise<Published & { result: RecoverResult }> {
    const mounted = await mountCopy(backup, recoverTo, { afterRecovery: 'pause' })
    published = mounted
    return { ...mounted, result: await start(mounted.spec) }
  }

  const start = (spec: InstanceSpec) => startInstance(spec, { logger, syncMount })
  const numbers = () => published?.sql('SELECT string_agg(number::text, $$,$$ ORDER BY number) FROM steps')
  const pidOf = async (spec: InstanceSpec) => (await findInstance(spec))?.postmaster.pid

  async function refusal(work: Promise<unknown>): Promise<HowdahError> {
    const error = await work.catch((reason: unknown) => reason)
    if (error instanceof HowdahError) return error
    throw new Error(`it was not refused: ${JSON.stringify(error)}`)
  }

  it('pauses at its target, reports the position, and accepts no writes', async () => {
    const { sql, result } = await pausedAt({ type: 'name', value: 'step-2' })
    expect(await numbers()).to.equal('1,2')
    expect(result.paused?.lsn).to.equal(await sql('SELECT pg_last_wal_replay_lsn()'))
    const lastCommit = Date.parse(result.paused?.lastCommit ?? '')
    expect(lastCommit).to.be.within(Date.parse(steps[0]?.time ?? ''), Date.parse(steps[1]?.time ?? ''))
    const error = await sql('INSERT INTO steps VALUES (0)').catch((reason: Error) => reason.message)
    expect(error).to.include('read-only transaction')
  })

  it('is promoted in place, and then accepts writes', async () => {
    const { spec, sql } = await pausedAt({ type: 'name', value: 'step-1' })
    const pid = await pidOf(spec)
    const promoted = { ...spec, afterRecovery: 'promote' as const }
    const result = await start(promoted)
    expect(result.paused).to.equal(undefined)
    await sql('INSERT INTO steps VALUES (7)')
    expect(await numbers()).to.equal('1,7')
    expect(await pidOf(spec)).to.equal(pid)
    expect(await start(promoted)).to.deep.equal(result)
  })

  it('is promoted at a time, and reports how long before it the last transaction was', async () => {
    const time = steps[1]?.time ?? ''
    const mounted = await mountCopy(backup, { type: 'time', value: time })
    published = mounted
    const { reached } = await start(mounted.spec)
    expect(reached?.secondsBefore).to.equal(0)
    expect(Date.parse(reached?.lastCommit ?? '')).to.be.within(Date.parse(time) - 10_000, Date.parse(time))
  })

  it('is advanced from target to target, up to the end of the archive, and promoted there', async () => {
    const { spec, sql } = await pausedAt({ type: 'immediate' })
    expect(await numbers()).to.equal('')
    const to = async (recoverTo: RecoverTo) => (await start({ ...spec, recoverTo })).paused?.lsn
    await to({ type: 'xid', value: steps[0]?.xid ?? '' })
    expect(await numbers()).to.equal('1')
    await to({ type: 'time', value: steps[1]?.time ?? '' })
    expect(await numbers()).to.equal('1,2')
    const there = await to({ type: 'lsn', value: steps[2]?.lsn ?? '' })
    expect(await numbers()).to.equal('1,2,3')
    expect(await sql('SELECT count(*) FROM t')).to.equal('1000')
    expect(await to({ type: 'latest' })).not.to.equal(there)
    expect(await sql('SELECT count(*) FROM t')).to.equal('1500')
    await start({ ...spec, recoverTo: { type: 'latest' }, afterRecovery: 'promote' })
    await sql('INSERT INTO t VALUES (0)')
  })

  it('is not advanced to a target that is behind or not in the archive, and stays paused', async () => {
    const { spec, result } = await pausedAt({ type: 'name', value: 'step-2' })
    const pid = await pidOf(spec)
    const targets: RecoverTo[] = [
      { type: 'immediate' },
      { type: 'lsn', value: steps[0]?.lsn ?? '' },
      { type: 'time', value: steps[0]?.time ?? '' },
      { type: 'xid', value: steps[0]?.xid ?? '' },
      { type: 'name', value: 'step-1' },
      { type: 'name', value: 'never-made' },
      { type: 'lsn', value: 'F/0' },
      { type: 'xid', value: '2000000000' },
      { type: 'time', value: '2100-01-01T00:00:00Z' },
      { type: 'time', value: 'yesterday' },
    ]
    for (const recoverTo of targets) {
      const error = await refusal(start({ ...spec, recoverTo }))
      expect(error.code, error.message).to.equal('target_unreachable')
    }
    expect(await pidOf(spec)).to.equal(pid)
    expect(await start(spec)).to.deep.equal(result)
    expect(await numbers()).to.equal('1,2')
  })

  it('is paused where it was when it cannot be started with a new target', async () => {
    const { spec, result } = await pausedAt({ type: 'name', value: 'step-2' })
    const error = await refusal(start({ ...spec, recoverTo: { type: 'latest', timeline: 9 } }))
    expect(error.code, error.message).to.equal('target_unreachable')
    expect((await start(spec)).paused).to.deep.equal(result.paused)
    expect(await numbers()).to.equal('1,2')
  })

  it('pauses at the end of the archive if requested, and again after a crash', async () => {
    const { spec, sql, result } = await pausedAt({ type: 'latest' })
    expect(await sql('SELECT count(*) FROM t')).to.equal('1500')
    await rm(`${spec.cachePath}/conf/postgres.json`)
    expect((await start(spec)).paused).to.deep.equal(result.paused)
    const pid = (await pidOf(spec)) ?? 0
    process.kill(pid, 'SIGKILL')
    while ((await findInstance(spec)) !== undefined) await delay(20)
    expect((await start(spec)).paused?.lsn).to.equal(result.paused?.lsn)
    expect(await sql('SELECT pg_is_in_recovery()')).to.equal('t')
  })

  it('is promoted where it was paused although its server has ended meanwhile', async () => {
    const { spec, sql } = await pausedAt({ type: 'latest' })
    await stopInstance(spec, { logger })
    await start({ ...spec, afterRecovery: 'promote' })
    await sql('INSERT INTO t VALUES (0)')
  })

  it('fails at the end of the archive when the target is not in it, and reports the position reached', async () => {
    const error = await refusal(pausedAt({ type: 'name', value: 'never-made' }))
    expect(error.code, error.message).to.equal('target_unreachable')
    expect(error.message).to.match(
      /archive ends at 0\/[0-9A-F]+ before .*never-made.*last transaction is of 20/,
    )
  })
})

describe('A recovery that is requested to pause after production raised a limit', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined

  before(async () => {
    backup = await makeBackup({
      settings: { fsync: 'on', max_connections: '20' },
      after: async (cluster) => {
        await cluster.sql("ALTER SYSTEM SET max_connections = '60'")
        await cluster.sql("ALTER SYSTEM SET max_prepared_transactions = '5'")
        await cluster.stop()
        await cluster.start()
        await cluster.sql("BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION 'open'")
      },
    })
  })
  afterEach(() => published?.remove())
  after(() => backup?.remove())

  it('keeps prepared transactions of production when it is promoted, which need the limit too', async () => {
    published = await mountCopy(backup)
    await startInstance(published.spec, { logger, syncMount })
    expect(await published.sql('SELECT gid FROM pg_prepared_xacts')).to.equal('open')
    expect(await published.sql('SHOW max_prepared_transactions')).to.equal('5')
  })

  it('has the limit raised', async () => {
    published = await mountCopy(backup, { type: 'latest' }, { afterRecovery: 'pause' })
    const { paused } = await startInstance(published.spec, { logger, syncMount })
    expect(paused).to.have.property('lsn')
    expect(await published.sql('SHOW max_connections')).to.equal('60')
    expect(await published.sql('SELECT count(*) FROM t')).to.equal('1500')
  })
})
