/** What a crash restart of PostgreSQL relies on: that its sync of the data directory, before redo, is one. */
import { writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { expect } from 'chai'
import { pattern } from './support/memory-source.ts'
import { makeScratch, python, type Scratch, startMount } from './support/mounted.ts'

const OWNER = { uid: 0, gid: 0 }
/** cachestat(2), of Linux 6.5, has this number on all architectures. */
const CACHESTAT = 451

describe('a crash restart of PostgreSQL on a mount', function () {
  this.timeout(60_000)
  let scratch: Scratch

  beforeEach(async () => {
    scratch = await makeScratch(OWNER)
    await mkdir(`${scratch.base}/global`)
    writeFileSync(`${scratch.base}/global/pg_control`, pattern(8192))
    writeFileSync(`${scratch.base}/table`, pattern(64 * 8192))
  })
  afterEach(() => scratch.remove())

  it('finds everything durable that was written before, once pg_control records that it is in recovery', async () => {
    await startMount(scratch, scratch.base, OWNER)
    const dirty = await python(
      `
import ctypes, glob, os
libc = ctypes.CDLL(None, use_errno=True)
def dirty():
    pages = 0
    for path in glob.glob('${scratch.cachePath}/files/*'):
        fd = os.open(path, os.O_RDONLY)
        span = (ctypes.c_uint64 * 2)(0, 0)
        stat = (ctypes.c_uint64 * 5)()
        if libc.syscall(${CACHESTAT}, fd, span, stat, 0) != 0: raise OSError(ctypes.get_errno(), 'cachestat')
        pages += stat[1] + stat[2]
        os.close(fd)
    return pages
table = os.open('table', os.O_RDWR)
os.pwrite(table, b'1' * 8192 * 64, 0)
os.fsync(table)
os.pwrite(table, b'2' * 8192 * 64, 0)
# As recovery_init_sync_method=syncfs, then StartupXLOG.
if libc.syncfs(table) != 0: raise OSError(ctypes.get_errno(), 'syncfs')
before = dirty()
control = os.open('global/pg_control', os.O_RDWR)
os.pwrite(control, b'in crash recovery', 0)
os.fsync(control)
print(before > 0, dirty())
`,
      scratch.data,
    )
    expect(dirty).to.equal('True 0')
  })
})
