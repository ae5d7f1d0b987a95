/** What only the SQLite store has: a file, and a disk that can be full. */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect } from 'chai'
import { newSession, type Session } from '../../coordinator/session.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { request } from './store-values.ts'

const session = (id: string): Session => newSession(id, request, 'backup-1', '2026-11-22T06:00:00.000Z')
const mode = (file: string): number => statSync(file).mode & 0o777

describe('the file of the SQLite store', () => {
  let directory: string
  let file: string

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-sqlite-'))
    file = path.join(directory, 'store.sqlite')
  })

  afterEach(() => rm(directory, { recursive: true }))

  it('is readable by its owner only, with all that belongs to it, in a directory that is open to all', async () => {
    chmodSync(directory, 0o755)
    const store = await openSqliteStore(file)
    await store.addSession(session('shop-1'), { history: [] })
    for (const suffix of ['', '-wal', '-shm']) expect(mode(file + suffix), suffix).to.equal(0o600)
    await store.close()
  })

  it('that an earlier release left readable for all is no longer so', async () => {
    await (await openSqliteStore(file)).close()
    chmodSync(file, 0o644)
    const store = await openSqliteStore(file)
    expect(mode(file)).to.equal(0o600)
    await store.close()
  })

  it('is refused when it is something else', async () => {
    writeFileSync(file, 'no database at all, although it is long enough for its header'.repeat(20))
    const error = await openSqliteStore(file).catch((refusal: unknown) => refusal)
    expect(error).to.include({ code: 'configuration' })
    expect((error as Error).message).to.include(file)
  })

  it('does not hold up the event loop while thousands of sessions are written and read', async function () {
    this.timeout(60_000)
    const store = await openSqliteStore(file)
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    for (let hundred = 0; hundred < 20; hundred++) {
      const names = Array.from({ length: 100 }, (_, index) => `shop-${hundred}-${index}`)
      await Promise.all(names.map((id) => store.addSession(session(id), { history: [] })))
    }
    expect(await store.dueSessions(Date.now())).to.have.length(2000)
    delay.disable()
    await store.close()
    // In milliseconds. Each write waits for the disk several times as long as this, in its own thread.
    expect(delay.percentile(99) / 1e6).to.be.below(50)
  })
})

describe('the SQLite store on a full disk', () => {
  let disk = ''

  beforeEach(async function () {
    if (process.geteuid?.() !== 0) return this.skip()
    disk = await mkdtemp('/var/tmp/howdah-disk-')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'howdah-test', disk])
  })

  afterEach(() => {
    if (disk === '') return
    execFileSync('umount', ['-l', disk])
    rmSync(disk, { recursive: true })
  })

  it('says so as something that passes, loses nothing that it confirmed, and goes on when there is room', async () => {
    const store = await openSqliteStore(path.join(disk, 'store.sqlite'))
    const kept: string[] = []
    const failures: Error[] = []
    writeFileSync(path.join(disk, 'ballast'), Buffer.alloc(1024 * 1024))
    const add = async (id: string): Promise<void> => {
      const one = session(id)
      one.warnings.push('x'.repeat(10_000))
      await store.addSession(one, { history: [] }).then(
        () => kept.push(id),
        (error: Error) => failures.push(error),
      )
    }
    // Those that come at once are written at once.
    for (let batch = 0; failures.length === 0 && batch < 100; batch++) {
      await Promise.all(Array.from({ length: 7 }, (_, index) => add(`shop-${batch}-${index}`)))
    }
    const [failure] = failures
    expect(failure).to.be.instanceOf(Unavailable)
    expect(failure?.message).to.match(/full/)
    rmSync(path.join(disk, 'ballast'))
    expect((await store.addSession(session('after'), { history: [] })).outcome).to.equal('added')
    const ids = (await store.sessions({ settled: true })).map(({ id }) => id)
    // What was reported as failed may be there: nobody was told that it is.
    expect(ids).to.include.members([...kept, 'after'])
    await store.close()
    expect(existsSync(path.join(disk, 'store.sqlite'))).to.equal(true)
  })
})
