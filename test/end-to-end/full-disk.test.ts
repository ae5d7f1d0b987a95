import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { expect } from 'chai'
import type { EventBody } from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

type Warning = EventBody<'session.warning'>

const REFUSALS = 15

describe('a disk that fills up, with WAL on it', function () {
  this.timeout(180_000)
  let production: Production
  let disk = ''
  let fleet: Fleet
  let session: SessionView
  const warnings: Warning[] = []
  let failed = false

  before(async function () {
    if (process.geteuid?.() !== 0) return this.skip()
    disk = await mkdtemp('/var/tmp/howdah-disk-')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=384m,mode=711', 'howdah-test', disk])
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: { cacheRoot: `${disk}/cache`, cache: { minimumFreeBytes: '64 MiB', reserveBytes: '96 MiB' } },
    })
    await fleet.bus.watchEvents('session.*.warning', ({ type, body }) => {
      if (type === 'session.warning') warnings.push(body)
    })
    session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
    await sql('CREATE TABLE filler (n int, t text); ALTER TABLE filler ALTER t SET STORAGE PLAIN')
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    try {
      await fleet?.remove(failed)
      await production?.remove()
    } finally {
      if (disk !== '') {
        execFileSync('umount', ['-l', disk])
        await rm(disk, { recursive: true })
      }
    }
  })

  const sql = (text: string): Promise<string> => fleet.sql(session, text, production.database)

  /** Commits 8 MiB; returns the error of a failure. */
  const fill = (): Promise<string> =>
    sql('INSERT INTO filler SELECT n, repeat($$x$$, 1900) FROM generate_series(1, 4096) AS n').then(
      () => '',
      (error: Error) => error.message,
    )

  it('fails writes of clients before WAL runs out of space, however many they send', async () => {
    let refused = 0
    for (let turn = 0; turn < 200 && refused < REFUSALS; turn++) {
      const message = await fill()
      if (message !== '') {
        expect(message).to.include('No space left on device')
        refused++
        // Existing rows are changed: this writes WAL and needs no space for data.
        await sql(
          'UPDATE notes SET id = id WHERE id % 10 = 0; UPDATE filler SET n = n WHERE n % 16 = 0',
        ).catch((error: Error) => expect(error.message).to.include('No space left on device'))
      }
    }
    expect(refused).to.equal(REFUSALS)
    expect(warnings.map(({ about }) => about)).to.include('free-space')
    const log = await readFile(`${session.writeCache?.path}/log/postgresql.log`, 'utf8')
    expect(log.match(/.*(PANIC|was terminated by signal).*/g) ?? []).to.deep.equal([])
    expect(await sql('SELECT count(*) FROM notes')).to.equal('1000')
  })

  it('accepts writes again when there is space', async () => {
    await sql('TRUNCATE filler; CHECKPOINT')
    const deadline = Date.now() + 30_000
    // The disk has the space once the truncation of the files is durable.
    while ((await fill()) !== '') expect(Date.now()).to.be.below(deadline)
    expect(await sql('SELECT count(*) FROM filler')).to.equal('4096')
  })
})
