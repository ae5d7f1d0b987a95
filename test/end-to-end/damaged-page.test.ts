/** A page that was damaged before the backup was taken: it is reported once, and everything else can be read. */
import { open, stat, utimes } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import type { Consumer } from '../../messages/bus.ts'
import type { DoctorItem, EventBody } from '../../messages/definitions.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

const BLOCK = 2

describe('a damaged page in a backup', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let file: string
  /** The byte that was damaged, as it was. */
  const intact = Buffer.alloc(1)
  let watching: Consumer
  const reported: EventBody<'session.damage'>[] = []
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'none' })
    await production.sql('CHECKPOINT')
    file = await production.sql("SELECT pg_relation_filepath('notes')")
    await production.stop()
    const handle = await open(path.join(production.dataDirectory, file), 'r+')
    await handle.read(intact, 0, 1, BLOCK * 8192 + 6000)
    await handle.write(Buffer.from('!'), 0, 1, BLOCK * 8192 + 6000)
    await handle.close()
    await production.start()
    await production.backup('full')
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path, verifyPages: true }],
    })
    watching = await fleet.bus.watchEvents('session.*.damage', ({ type, body }) => {
      if (type === 'session.damage') reported.push(body)
    })
  })
  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })
  after(async () => {
    await watching?.close()
    await fleet?.remove(failed)
    await production?.remove()
  })

  it('is reported once, by an event that names file and block, and hides no other page', async () => {
    const session = await fleet.publish('--repository', 'main', '--instance', 'shop')
    const ask = (query: string) => fleet.sql(session, query, production.database)
    for (const _ of [1, 2]) {
      const error = await ask('SELECT count(note) FROM notes').catch(String)
      expect(error).to.contain(`invalid page in block ${BLOCK}`)
    }
    expect(await ask("SELECT id FROM notes WHERE ctid = '(1,1)'")).to.not.equal('')
    expect(await ask('SELECT count(*) FROM pgbench_accounts')).to.equal('100000')
    expect(reported.map(({ what: _, ...damage }) => damage)).to.deep.equal([
      {
        session: session.id,
        ...{ repository: 'main', instance: 'shop', backup: session.backup },
        ...{ file: `data/${file}`, block: BLOCK },
      },
    ])
    expect(reported[0]?.what).to.match(/^its checksum is \d+, and of what it holds \d+$/)
    await fleet.howdahJson('unpublish', session.id, '--yes')
  })

  it('is read correctly once the repository is repaired, although the blocks around it are still cached', async () => {
    const stored = `${production.path}/backup/shop/latest/pg_data/${file}`
    const { atime, mtime } = await stat(stored)
    const handle = await open(stored, 'r+')
    await handle.write(intact, 0, 1, BLOCK * 8192 + 6000)
    await handle.close()
    await utimes(stored, atime, mtime)
    const session = await fleet.publish('--repository', 'main', '--instance', 'shop')
    const page = `ctid >= '(${BLOCK},0)' AND ctid < '(${BLOCK + 1},0)'`
    const rows = await fleet.sql(
      session,
      `SELECT count(note) > 0 FROM notes WHERE ${page}`,
      production.database,
    )
    expect(rows).to.equal('t')
    // What is cached of it is intact, and a block that is damaged later is found while the session continues.
    const sound = await fleet.howdahJson<{ items: DoctorItem[] }>('doctor', '--target', 'db-7')
    expect(sound.items.map(({ kind, verdict }) => `${kind} ${verdict}`)).to.have.members([
      'write-cache sound',
      'fetched-store sound',
    ])
    const [store] = sound.items.filter(({ kind }) => kind === 'fetched-store')
    const blocks = await open(`${store?.path}/blocks.data`, 'r+')
    await blocks.write(Buffer.from('rotten'), 0, 6, BLOCK * 8192 + 6000)
    await blocks.close()
    const mended = await fleet.howdahJson<{ items: DoctorItem[] }>('doctor', '--target', 'db-7')
    expect(mended.items.map(({ verdict }) => verdict)).to.include('mended')
    expect(await fleet.sql(session, 'SELECT count(*) FROM pgbench_accounts', production.database)).to.equal(
      '100000',
    )
    await fleet.howdahJson('unpublish', session.id, '--yes')
  })
})
