import { setTimeout } from 'node:timers/promises'
import { expect } from 'chai'
import { identify } from '../../config/process-identity.ts'
import {
  type Account,
  type Cluster,
  makeCluster,
  POSTGRES_BIN,
  postgresAccount,
  runAs,
} from '../support/postgres-cluster.ts'
import { makeScratch, type Scratch, shell, startMount } from './support/mounted.ts'

const DEADLINE_MS = 30_000

describe('PostgreSQL on a mount', function () {
  this.timeout(120_000)
  let account: Account
  let origin: Scratch
  let scratch: Scratch
  let cluster: Cluster
  let data: string
  let digest: string

  const digestOfBase = () =>
    shell('find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum', cluster.dataDirectory)

  before(async () => {
    account = await postgresAccount()
    origin = await makeScratch(account)
    const directory = `${origin.directory}/base`
    cluster = await makeCluster({ directory, account, configuration: 'inside', settings: {} })
    await cluster.start()
    await pgbench('-i', '-q', '-s', '5')
    await cluster.stop()
    digest = await digestOfBase()
  })
  after(() => origin.remove())

  beforeEach(async () => {
    scratch = await makeScratch(account)
    data = scratch.data
    await mount()
    await shell(`cp -a ${cluster.dataDirectory}/pg_wal/. ${scratch.cachePath}/pg_wal/`, '/')
  })
  afterEach(async () => {
    await control('stop', '-m', 'immediate').catch(() => undefined)
    await scratch.remove()
  })

  const mount = (changes = {}) => startMount(scratch, cluster.dataDirectory, account, changes)
  const tool = (name: string, ...args: string[]) => runAs(account, `${POSTGRES_BIN}/${name}`, args)
  const connection = () => ['-h', cluster.socketDirectory, '-p', String(cluster.port)]
  const pgbench = (...args: string[]) => tool('pgbench', ...connection(), ...args, 'postgres')
  const control = (...args: string[]) => tool('pg_ctl', '-w', '-s', '-D', data, ...args)
  const start = () =>
    control(
      'start',
      '-t',
      '60',
      '-o',
      '-c fsync=on -c checkpoint_timeout=30s',
      '-l',
      `${origin.directory}/base/log`,
    )
  const amcheck = () => tool('pg_amcheck', ...connection(), '--install-missing', '--all')
  const balances = () =>
    cluster.sql(
      `select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)
         and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)`,
    )

  it('runs pgbench, maintenance and pg_amcheck, and leaves the backup as it is', async () => {
    await start()
    expect(await pgbench('-c', '4', '-j', '2', '-T', '3')).to.contain('number of failed transactions: 0')
    await cluster.sql('checkpoint; vacuum full pgbench_accounts;')
    await cluster.sql('create database other template template0;')
    await cluster.sql('drop database other;')
    await cluster.sql(
      'create table t as select generate_series(1, 100000) i; create index on t (i); truncate t;',
    )
    await amcheck()
    expect(await balances()).to.equal('t')
    await control('stop')
    await tool('pg_checksums', '--check', '-D', data)
    expect(await digestOfBase()).to.equal(digest)
  })

  it('has its changes again after a remount', async () => {
    await start()
    await pgbench('-n', '-t', '50')
    const before = await cluster.sql('select sum(abalance), count(*) from pgbench_accounts')
    await control('stop')
    const first = await mount()
    await first.stop()
    await mount()
    await start()
    expect(await cluster.sql('select sum(abalance), count(*) from pgbench_accounts')).to.equal(before)
  })

  it('reports that no space is left at the quota, can still read, and writes again after space was freed', async () => {
    await (await mount()).stop()
    const mounted = await mount({ quotaBytes: 24 * 1024 * 1024 })
    await start()
    await cluster.sql('create table small as select 1')
    const message = await cluster.sql('create table large as select generate_series(1, 2000000)').then(
      () => 'none',
      (error: Error) => error.message,
    )
    expect(message).to.contain('No space left on device')
    expect(await cluster.sql('select count(*) from pgbench_accounts')).to.equal('500000')
    expect((await mounted.status()).changedBytes).to.be.at.most(24 * 1024 * 1024)
    await cluster.sql('checkpoint')
    await cluster.sql('create table medium as select generate_series(1, 20000)')
    await amcheck()
  })

  it('recovers every commit after kill -9 of the mount process under load', async () => {
    await start()
    await cluster.sql('checkpoint')
    const load = pgbench('-c', '4', '-j', '2', '-T', '30').catch(() => undefined)
    await until(async () => Number(await cluster.sql('select count(*) from pgbench_history')) > 500)
    await cluster.sql('checkpoint')
    const committed = Number(await cluster.sql('select count(*) from pgbench_history'))
    const postmaster = Number((await shell(`head -1 ${data}/postmaster.pid`, '/')).trim())
    const mounted = await mount()
    process.kill(mounted.pid, 'SIGKILL')
    await mounted.ended
    if (identify(postmaster) !== undefined) process.kill(postmaster, 'SIGQUIT')
    await load
    await until(async () => identify(postmaster) === undefined)

    await mount()
    // Where orphans are not reaped the dead postmaster keeps its PID, and PostgreSQL would wait for it.
    await shell('rm postmaster.pid', data)
    await start()
    expect(Number(await cluster.sql('select count(*) from pgbench_history'))).to.be.at.least(committed)
    expect(await balances()).to.equal('t')
    await amcheck()
    await control('stop')
    await tool('pg_checksums', '--check', '-D', data)
  })
})

async function until(condition: () => Promise<boolean>): Promise<void> {
  const giveUp = Date.now() + DEADLINE_MS
  while (!(await condition())) {
    if (Date.now() > giveUp) throw new Error('the condition did not come true')
    await setTimeout(50)
  }
}
