/** A backup that is removed from its repository while it is open: reported as gone, never as damage. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { createGoneReports } from '../../agents/mount/expired-backup.ts'
import { type ServedRepositories, serveRepositories } from '../../agents/mount/served-repositories.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { HowdahError } from '../../messages/errors.ts'
import { makeBlockRepository } from './block-repository.ts'
import { openForTest, quiet, temporaryDirectory } from './fixture.ts'
import { infoFile } from './large-repository.ts'
import { dice } from './reference.ts'

describe('a backup that expires while it is open', () => {
  let scratch: string
  let root: string
  let spool: Spool
  let served: ServedRepositories
  let name: { repository: string; instance: string; backup: string }

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    root = join(scratch, 'repo')
    const { labels } = await makeBlockRepository(root, { compression: 'none', encrypted: false }, dice(4))
    const options = { format: 'pgbackrest', path: root } as const
    const opened = openForTest(options, join(scratch, 'spool'))
    spool = opened.spool
    served = serveRepositories('here', [
      { options: { name: 'main', ...options }, repository: opened.repository },
    ])
    name = { repository: 'main', instance: 'demo', backup: labels[0] ?? '' }
  })
  afterEach(async () => {
    await spool.close()
    await rm(scratch, { recursive: true, force: true })
  })

  const failure = async (work: Promise<unknown>): Promise<HowdahError> =>
    work.then(
      () => expect.fail('nothing failed'),
      (error) => error,
    )
  async function readAnything(): Promise<HowdahError> {
    const backup = await served.open(name)
    const entry = backup.entry('data/base/1/2000')
    await rm(join(root, 'backup/demo', name.backup), { recursive: true })
    return failure(backup.read(entry?.file ?? -1, 0, 100))
  }

  it('is reported as gone, by its label, when a read needs a file that no longer exists', async () => {
    const info = infoFile({ 'db:history': [['1', { 'db-system-id': 77, 'db-version': '15' }]] })
    const backup = await served.open(name)
    const entry = backup.entry('data/base/1/2000')
    await rm(join(root, 'backup/demo', name.backup), { recursive: true })
    await writeFile(join(root, 'backup/demo/backup.info'), info)
    const error = await failure(backup.read(entry?.file ?? -1, 0, 100))
    expect(error.code).to.equal('backup_gone')
    expect(error.message).to.include(`backup ${name.backup} of main/demo is gone`)
    expect((await failure(served.reopen(name))).code).to.equal('backup_gone')
    expect((await failure(served.open(name))).code).to.equal('unknown_backup')
    await rm(join(root, 'backup/demo'), { recursive: true })
    expect((await failure(served.reopen(name))).code).to.equal('backup_gone')
  })

  it('is damage as long as the repository lists it', async () => {
    expect((await readAnything()).code).to.equal('backup_damaged')
  })

  it('is reported once to each session, and again where that failed', async () => {
    const reported: string[] = []
    let failures = 1
    const report = createGoneReports(async (session, message) => {
      reported.push(`${session}: ${message}`)
      if (session === 's2' && failures-- > 0) throw new Error('the broker is away')
    }, quiet)
    const gone = new HowdahError('backup_gone', 'gone')
    for (const session of ['s1', 's1', 's2']) report(session, gone)
    await new Promise((resolve) => setImmediate(resolve))
    report('s2', gone)
    report('s3', new HowdahError('backup_damaged', 'damaged'))
    expect(reported).to.deep.equal(['s1: gone', 's2: gone', 's2: gone'])
  })
})
