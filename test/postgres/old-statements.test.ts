/** The end of the first recovery, with clients that connected before fsync was enabled. */
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { expect } from 'chai'
import { finishFirstRecovery } from '../../agents/target/postgres/recovery/first-recovery.ts'
import { type InstanceSpec, instancePaths } from '../../agents/target/postgres/specification.ts'
import { type Cluster, makeCluster, POSTGRES_MAJOR, postgresAccount } from '../support/postgres-cluster.ts'

describe('The end of a first recovery', function () {
  this.timeout(60_000)
  let directory: string
  let cluster: Cluster
  let spec: InstanceSpec
  let done: string[]

  before(async () => {
    const account = await postgresAccount()
    directory = await mkdtemp('/var/tmp/howdah-first-')
    await chmod(directory, 0o755)
    await chown(directory, account.uid, account.gid)
    cluster = await makeCluster({ directory, account, configuration: 'inside', settings: {} })
    await cluster.start()
    const cachePath = `${directory}/cache`
    spec = {
      ...{ session: 'shop-1', mountPoint: '/nowhere', cachePath, binaries: '/', version: POSTGRES_MAJOR },
      ...{ user: account, port: cluster.port, recoverTo: { type: 'latest' } },
    }
    await mkdir(instancePaths(spec).configuration, { recursive: true })
    await symlink(cluster.socketDirectory, instancePaths(spec).run)
    await symlink(`${cluster.dataDirectory}/pg_wal`, instancePaths(spec).pgWal)
  })
  beforeEach(async () => {
    done = []
    await rm(instancePaths(spec).recovered, { force: true })
  })
  after(async () => {
    await cluster?.stop('immediate')
    await rm(directory, { recursive: true, force: true })
  })

  /** A client whose statement runs when the server reads its configuration again. */
  async function finishWhile(statement: string): Promise<void> {
    const client = cluster.sql(statement).then(
      () => done.push('statement'),
      (error: Error) => done.push(/terminat/.test(error.message) ? 'terminated' : error.message),
    )
    const running = `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(_)%' AND pid <> pg_backend_pid()`
    while ((await cluster.sql(running)) !== '1') {}
    const enabledAt = Date.now()
    await cluster.sql('SELECT pg_reload_conf()')
    const as = { user: cluster.user, database: 'postgres' }
    await finishFirstRecovery(spec, enabledAt, as, undefined, {
      syncMount: async () => {
        done.push('synced')
      },
    })
    expect(existsSync(instancePaths(spec).recovered)).to.equal(true)
    await client
  }

  it('syncs after the last statement that began without fsync', async () => {
    await finishWhile('SELECT pg_sleep(2)')
    expect(done).to.eql(['statement', 'synced'])
  })

  it('terminates a long statement, so that its client sees an error', async () => {
    await finishWhile('SELECT pg_sleep(9), pg_sleep(50)')
    expect(done[0]).to.equal('terminated')
    expect(done).to.include('synced')
  })
})
