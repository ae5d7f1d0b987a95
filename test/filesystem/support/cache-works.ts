/** The tests of a write cache on a file system that is made for them. */
import { writeFileSync } from 'node:fs'
import { expect } from 'chai'
import { tryAsCache } from '../../../agents/target/preflight/cache-trial.ts'
import { cacheRootFindings } from '../../../agents/target/preflight/file-system.ts'
import { DRIVERS } from '../../durability/support/drivers.ts'
import { runModel } from '../../durability/support/model.ts'
import { type FileSystemName, type MadeFileSystem, makeFileSystem } from '../../support/file-systems.ts'
import { postgresAccount } from '../../support/postgres-cluster.ts'
import { pattern } from './memory-source.ts'
import { makeScratch, python, startMount } from './mounted.ts'

const MIB = 1024 * 1024
const RESERVE = 32 * MIB
/** Of a file system that is to be full soon. */
const LEFT = 128 * MIB
const BASE_BYTES = 4 * MIB

/** Declares the tests, in a `describe` of their own. `operations` and `seed`: of the model test. */
export function cacheWorks(
  name: FileSystemName,
  { operations, seed }: { readonly operations: number; readonly seed: number },
): void {
  let made: MadeFileSystem

  before(async () => {
    made = await makeFileSystem(name)
  })
  after(() => made?.remove())

  it('finds there what it needs', async () => {
    expect(await tryAsCache(made.directory)).to.deep.equal([])
    const findings = await cacheRootFindings(made.directory)
    expect(findings.map(({ level }) => level)).to.deep.equal(name === 'tmpfs' ? ['warning'] : [])
  })

  it('gives the same results as a plain directory, after remounts and crashes too', async function () {
    this.timeout(600_000)
    const [kernel] = DRIVERS
    if (kernel?.name !== 'kernel') throw new Error('the first driver is to be the kernel’s')
    const driver = { ...kernel, place: { parent: made.directory } }
    const { counterexample } = await runModel({ driver, operations, seed })
    expect(counterexample, JSON.stringify(counterexample)).to.equal(undefined)
  })

  it('refuses the write itself on a full disk: no sync fails, what was written is there, and freed space is used', async function () {
    this.timeout(120_000)
    const owner = await postgresAccount()
    await made.leave(LEFT)
    const scratch = await makeScratch(owner, { parent: made.directory })
    try {
      writeFileSync(`${scratch.base}/table`, pattern(BASE_BYTES))
      await startMount(scratch, scratch.base, owner, { driver: 'kernel', reserveBytes: RESERVE })
      const written = Number(await python(fillUp(owner), scratch.data))
      expect(written).to.be.within((LEFT - RESERVE) / 2, LEFT)
    } finally {
      await scratch.remove()
    }
  })
}

/** Fills a file until there is no space, overwrites a table of the backup, and frees and fills again. */
function fillUp({ uid, gid }: { uid: number; gid: number }): string {
  return `
import errno, os, time
os.setgroups([]); os.setgid(${gid}); os.setuid(${uid})
P = 8192
# Bytes that do not compress.
NOISE = os.urandom(P - 24)
def page(f, n): return b'%08d%016d' % (f, n) + NOISE
def fill(f, fd):
    n = os.fstat(fd).st_size // P
    while True:
        try: assert os.pwrite(fd, page(f, n), n * P) == P
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            return n
        n += 1
def check(f, n):
    fd = os.open('f%d' % f, os.O_RDONLY)
    assert os.fstat(fd).st_size == n * P, (f, n, os.fstat(fd).st_size)
    for i in range(n): assert os.pread(fd, P, i * P) == page(f, i), (f, i)
    os.close(fd)

fd = os.open('f0', os.O_RDWR | os.O_CREAT, 0o600)
count = fill(0, fd)
os.fsync(fd)
check(0, count)
os.ftruncate(fd, count // 2 * P)
table = os.open('table', os.O_RDWR)
for n in range(${BASE_BYTES} // P): os.pwrite(table, page(9, n), n * P)
os.fsync(table)
other = os.open('f1', os.O_RDWR | os.O_CREAT, 0o600)
# What is freed is free once that is durable.
more = 0
until = time.monotonic() + 60
while more * P < ${8 * MIB}:
    assert time.monotonic() < until, more
    more = fill(1, other)
    time.sleep(0.05)
os.fsync(other)
check(0, count // 2)
check(1, more)
print(count * P)`
}
