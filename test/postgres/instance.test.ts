import { expect } from 'chai'
import { startInstance } from '../../agents/target/postgres/instance.ts'
import { type Backup, logger, makeBackup, mountCopy, type Published } from './backup.ts'

describe('A published instance', function () {
  this.timeout(60_000)
  let backup: Backup
  let published: Published | undefined

  before(async () => {
    backup = await makeBackup({ settings: { fsync: 'on' } })
  })
  afterEach(async () => {
    await published?.remove()
    published = undefined
  })
  after(() => backup?.remove())

  it('recovers to the end of the archive and is writable', async () => {
    published = await mountCopy(backup)
    const result = await startInstance(published.spec, { logger })
    expect(await published.sql('SELECT count(*) FROM t')).to.equal('1500')
    await published.sql('INSERT INTO t VALUES (0)')
    expect(result.connection).to.deep.equal({
      host: `${published.spec.cachePath}/run`,
      socketDirectory: `${published.spec.cachePath}/run`,
      port: published.spec.port,
      user: backup.account.name,
    })
  })
})
