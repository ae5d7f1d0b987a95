import { execFileSync } from 'node:child_process'
import { chmod } from 'node:fs/promises'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { directoryDigest } from '../support/digest.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { openFuseDevice } from '../support/fuse-device.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('a target agent without root', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let session: SessionView
  let closeDevice: (() => Promise<void>) | undefined
  let failed = false

  before(async function () {
    // Only root can change to another user.
    if (process.geteuid?.() !== 0) return this.skip()
    closeDevice = await openFuseDevice()
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      targetAccount: await postgresAccount(),
    })
    session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    try {
      await fleet?.remove(failed)
      await production?.remove()
    } finally {
      await closeDevice?.()
    }
  })

  const found = (command: string): string =>
    execFileSync('sh', ['-c', `${command} || true`], { encoding: 'utf8' }).trim()

  it('publishes an instance, promoted, with the rows written after the backup', async () => {
    expect(session).to.include({ state: 'published' })
    expect(await fleet.sql(session, 'SELECT pg_is_in_recovery()')).to.equal('f')
    expect(await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
  })

  it('runs every process of the session as its own user', () => {
    const owners = found(
      `ps -o user= -p "$(pgrep -d, -f '[h]owdah mount ${session.id}|${session.id}/[d]ata')"`,
    )
    expect(new Set(owners.split('\n'))).to.deep.equal(new Set(['postgres']))
  })

  it('keeps changes out of the repository, across a checkpoint and VACUUM FULL', async () => {
    const before = directoryDigest(production.path)
    const change = 'CREATE TABLE bulk AS SELECT n, repeat($$x$$, 500) AS t FROM generate_series(1, 5000) AS n'
    await fleet.sql(session, `${change}; CHECKPOINT; VACUUM FULL notes;`, production.database)
    expect(await fleet.sql(session, 'SELECT count(*) FROM bulk', production.database)).to.equal('5000')
    expect(directoryDigest(production.path)).to.equal(before)
  })

  it('resumes after kill -9 of the mount process, with every committed change', async () => {
    const pid = Number(found(`pgrep -f '^howdah mount ${session.id}$'`))
    const lost = fleet.untilState(session.id, 'disrupted')
    process.kill(pid, 'SIGKILL')
    await lost
    session = await fleet.untilState(session.id, 'published')
    expect(await fleet.sql(session, 'SELECT count(*) FROM bulk', production.database)).to.equal('5000')
    expect(await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
  })

  it('has its instance adopted by the next agent process', async () => {
    await fleet.stop('target-agent', 'SIGKILL')
    await fleet.start('target-agent')
    expect((await fleet.show(session.id)).state).to.equal('published')
    expect(await fleet.sql(session, 'SELECT count(*) FROM bulk', production.database)).to.equal('5000')
  })

  it('leaves nothing when it is unpublished', async () => {
    const { id, connection } = session
    const gone = await fleet.howdahJson<SessionView>('unpublish', id, '--yes')
    expect(gone.state).to.equal('closed')
    expect(found(`grep ${id} /proc/self/mounts`)).to.equal('')
    // Fetched blocks of the backup are kept for its next session.
    const kept = `-path ${fleet.cacheRoot}/fetched -prune -o`
    expect(found(`find ${fleet.mountRoot} ${fleet.cacheRoot} -mindepth 1 ${kept} -print`)).to.equal('')
    expect(found(`pgrep -fa '[${id.slice(0, 1)}]${id.slice(1)}'`)).to.equal('')
    expect(found(`ss -Hltn 'sport = :${connection?.port}'`)).to.equal('')
    expect(found(`awk '$5 == ${connection?.port}' /proc/sysvipc/shm`)).to.equal('')
  })

  it('warns that its instance is not isolated from the rest of the machine', () => {
    expect(
      session.warnings.filter((warning) =>
        /^The instance is not isolated .*does not run as root/.test(warning),
      ),
    ).to.have.length(2)
  })

  it('says so before the publish, too', async () => {
    const source = ['--repository', 'main', '--instance', production.stanza, '--target', 'db-7']
    const { stdout } = await fleet.howdah('check', ...source, '--json')
    expect(stdout.match(/"isolation_missing"/g)).to.have.length(2)
  })

  it('refuses to replay the creation of a tablespace, and reaches a target before it', async () => {
    const { user, dataDirectory } = production
    const location = `${dataDirectory}.later`
    execFileSync('install', ['-d', '-o', user, '-m', '0755', location])
    await production.sql(`CREATE TABLESPACE later LOCATION '${location}'`)
    await production.sql('CREATE TABLE there TABLESPACE later AS SELECT 1 AS i')
    await production.switchWal()
    const before = directoryDigest(location)
    const body = { repository: 'main', instance: production.stanza, target: 'db-7' }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    const { error } = await fleet.untilState(reply.session, 'failed')
    expect(error?.code).to.equal('target_unreachable')
    const reachable = /"--recover-to (lsn=\S+) --exclusive"/.exec(error?.message ?? '')?.[1] ?? ''
    const options = ['--recover-to', reachable, '--exclusive']
    const published = await fleet.publish('--repository', 'main', '--instance', production.stanza, ...options)
    expect(await fleet.sql(published, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
    expect(directoryDigest(location)).to.equal(before)
    await fleet.howdahJson('unpublish', published.id, '--yes')
  })

  it('names the user that it cannot run an instance as, and what to do', async () => {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7', user: 'nobody' }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    const { error } = await fleet.untilState(reply.session, 'failed')
    expect(error?.code).to.equal('user_unusable')
    expect(error?.message).to.match(/"postgres".*"nobody"/)
  })

  it('names the user that may not open /dev/fuse, and what to do', async () => {
    await chmod('/dev/fuse', 0o600)
    try {
      const body = { repository: 'main', instance: production.stanza, target: 'db-7' }
      const reply = await fleet.bus.request('instance.publish', body)
      if (!reply.accepted) throw new Error(reply.error.message)
      const { error } = await fleet.untilState(reply.session, 'failed')
      expect(error?.code).to.equal('fuse_unusable')
      expect(error?.message).to.match(/\/dev\/fuse cannot be opened by the user "postgres".*chmod/)
    } finally {
      await chmod('/dev/fuse', 0o666)
    }
  })
})
