/** Backups that contain WAL: sufficient without an archive, and not the latest state where an archive has later WAL. */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { HowdahError } from '../../messages/errors.ts'
import { temporaryDirectory } from '../repository/fixture.ts'
import { POSTGRES_MAJOR } from '../support/installed-postgres.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type Planner, planner } from './history.ts'

describe('a backup of a running server that contains its WAL', function () {
  this.timeout(120_000)
  let production: Production
  let scratch: string

  before(async () => {
    production = await makeProduction({ tablespace: false, bundle: true })
    scratch = await temporaryDirectory()
    await production.backup('full')
    await production.pgbackrest('--archive-copy', '--type=full', 'backup')
  })
  after(async () => {
    await production?.remove()
    await rm(scratch, { recursive: true, force: true })
  })

  it('is published with that WAL when the archive has lost it', async () => {
    const archive = join(production.path, 'archive', production.stanza, `${POSTGRES_MAJOR}-1`)
    for (const name of await readdir(archive)) await rm(join(archive, name), { recursive: true })
    const { instance, plan, spool } = await planner(
      production.path,
      production.stanza,
      join(scratch, 'spool'),
    )
    const [without, carrying] = await instance.backups()
    expect((await plan({ type: 'immediate' })).backup.label).to.equal(carrying?.label)
    const opened = await instance.open(carrying?.label ?? '')
    expect(opened.ownWal).to.equal(undefined)
    expect(await opened.walSize(carrying?.stopWal ?? '')).to.equal(16 * 1024 * 1024)
    const refused = await plan({ type: 'immediate' }, without?.label).catch((error: HowdahError) => error)
    expect(refused).to.include({ code: 'wal_missing' })
    await spool.close()
  })
})

describe('a backup of a stopped server', function () {
  this.timeout(120_000)
  let production: Production
  let scratch: string
  let planned: Planner

  before(async () => {
    production = await makeProduction({ tablespace: false, bundle: true })
    scratch = await temporaryDirectory()
    await production.writeNotes(1, 'before')
    await production.switchWal()
    await production.stop()
    await production.pgbackrest('--no-online', '--type=full', 'backup')
    planned = await planner(production.path, production.stanza, join(scratch, 'spool'))
  })
  after(async () => {
    await planned?.spool.close()
    await production?.remove()
    await rm(scratch, { recursive: true, force: true })
  })

  it('begins where the server was stopped, and contains the WAL that it needs to start', async () => {
    const [backup] = await planned.instance.backups()
    expect(backup).to.include({ offline: true, timeline: 1 })
    expect(backup?.startLsn).to.match(/^0\/[0-9A-F]+$/)
    const opened = await planned.instance.open(backup?.label ?? '')
    expect(opened.ownWal).to.deep.equal([backup?.startWal])
    expect(await opened.walSize(backup?.startWal ?? '')).to.equal(16 * 1024 * 1024)
    expect((await opened.walRead(backup?.startWal ?? '', 0, 2)).readUInt16LE(0) >> 8).to.equal(0xd1)
  })

  it('is the latest state while the archive has nothing later, with a warning', async () => {
    const { withoutRecovery, warnings } = await planned.plan({ type: 'latest' })
    expect(withoutRecovery).to.equal(true)
    expect(warnings[0]?.message).to.include('holds nothing of after the end of backup')
  })

  it('is recovered with the archive when that has later WAL, and started without recovery for its own end', async () => {
    await production.start()
    const { configFile, stanza, sql } = production
    await sql(
      `alter system set archive_command = 'pgbackrest --config=${configFile} --stanza=${stanza} archive-push %p'`,
    )
    await sql('select pg_reload_conf()')
    await production.writeNotes(1, 'after')
    await production.switchWal()
    const plan = await planned.plan({ type: 'latest' })
    expect(plan.withoutRecovery).to.equal(undefined)
    expect(plan.warnings).to.deep.equal([])
    expect(plan.reaches?.lastCommit).to.match(/Z$/)
    expect((await planned.plan({ type: 'immediate' })).withoutRecovery).to.equal(true)
  })
})
