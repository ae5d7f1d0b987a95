/** Errors that unprivileged writers get when a write cache fills up while the kernel caches their writes. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { findMount } from '../../agents/target/filesystem/drivers/mount-table.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { pattern } from './support/memory-source.ts'
import { makeScratch, python, type Scratch, startMount } from './support/mounted.ts'

const MIB = 1024 * 1024
/** More than the margin, so that writing begins in the kernel's page cache and is switched under way. */
const QUOTA = 600 * MIB
const BASE_BYTES = 8 * MIB

describe('a mount whose write cache fills up under buffered writes', function () {
  this.timeout(180_000)
  let scratch: Scratch
  let data: string
  let prelude: string

  before(async function () {
    if (process.geteuid?.() !== 0) return this.skip()
    const owner = await postgresAccount()
    scratch = await makeScratch(owner)
    data = scratch.data
    writeFileSync(`${scratch.base}/table`, pattern(BASE_BYTES))
    await startMount(scratch, scratch.base, owner, { driver: 'kernel', quotaBytes: QUOTA })
    // Each page contains its file and number, so that pages cannot be confused.
    prelude = `
import errno, os, threading
os.setgroups([]); os.setgid(${owner.gid}); os.setuid(${owner.uid})
P = 8192
def page(f, n, turn=0): return b'%08d%08d%08d' % (f, n, turn) * (P // 24) + b'-' * (P % 24)
def fill(f, fd):
    n = os.fstat(fd).st_size // P
    while True:
        try: assert os.pwrite(fd, page(f, n), n * P) == P
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            return n
        n += 1
def check(f, n, turn=0):
    fd = os.open('f%d' % f, os.O_RDONLY)
    assert os.fstat(fd).st_size == n * P, (f, n, os.fstat(fd).st_size)
    for i in range(n): assert os.pread(fd, P, i * P) == page(f, i, turn), (f, i)
    os.close(fd)
`
  })
  after(() => scratch?.remove())

  let pages: number[] = []

  it('has a bound on dirty pages, which is restored when another process raises it', async () => {
    const { device = '' } = findMount(scratch.mountPoint) ?? {}
    const fine = `/sys/class/bdi/${device}/max_ratio_fine`
    // Before Linux 6.2 there are whole percents only.
    const [path, whole] = existsSync(fine) ? [fine, 1_000_000] : [`/sys/class/bdi/${device}/max_ratio`, 100]
    const share = readFileSync(path, 'latin1')
    expect(Number(share)).to.be.lessThan(whole)
    writeFileSync(path, String(whole))
    while (readFileSync(path, 'latin1') !== share) await sleep(100)
  })

  it('refuses the write itself, and no fsync of any descriptor fails', async () => {
    const said = await python(
      `${prelude}
fds = [os.open('f%d' % f, os.O_RDWR | os.O_CREAT, 0o600) for f in range(3)]
others = [os.open('f%d' % f, os.O_RDWR) for f in range(3)]
counts = [0, 0, 0]
def run(f): counts[f] = fill(f, fds[f])
threads = [threading.Thread(target=run, args=(f,)) for f in range(3)]
for t in threads: t.start()
for t in threads: t.join()
for fd in others + fds: os.fsync(fd)
for f in range(3): check(f, counts[f])
print(*counts)`,
      data,
    )
    pages = said.split(' ').map(Number)
    const written = pages.reduce((sum, count) => sum + count, 0) * 8192
    expect(written).to.be.greaterThan(QUOTA * 0.9)
    expect(written).to.be.at.most(QUOTA)
  })

  it('still lets files be overwritten, those of the backup included', async () => {
    await python(
      `${prelude}
fd = os.open('table', os.O_RDWR)
for n in range(${BASE_BYTES} // P): os.pwrite(fd, page(9, n, 1), n * P)
os.fsync(fd)
fd = os.open('f0', os.O_RDWR)
for n in range(1000): os.pwrite(fd, page(0, n, 0), n * P)
os.fsync(fd)`,
      data,
    )
  })

  it('accepts writes again after space is freed, through descriptors that were refused', async () => {
    const said = await python(
      `${prelude}
fds = [os.open('f%d' % f, os.O_RDWR) for f in range(3)]
fill(1, fds[1])
os.ftruncate(fds[0], 0)
count = fill(0, fds[0])
for fd in fds: os.fsync(fd)
check(0, count); check(1, ${pages[1]}); check(2, ${pages[2]})
print(count)`,
      data,
    )
    expect(Number(said)).to.be.greaterThan((pages[0] ?? 0) * 0.9)
    pages[0] = Number(said)
  })

  it('keeps synced changes after kill -9 of the mount process', async () => {
    const owner = await postgresAccount()
    const mount = await startMount(scratch, scratch.base, owner)
    process.kill(mount.pid, 'SIGKILL')
    await mount.ended
    await startMount(scratch, scratch.base, owner, { driver: 'kernel', quotaBytes: QUOTA })
    await python(`${prelude}\nfor f, n in enumerate([${pages.join(', ')}]): check(f, n)`, data)
  })
})
