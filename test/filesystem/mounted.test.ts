import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { expect } from 'chai'
import { isMounted } from '../../agents/target/filesystem/drivers/mount-table.ts'
import { clearDeadMount } from '../../agents/target/mount-process/agent/dead-mount.ts'
import { findMountProcess } from '../../agents/target/mount-process/agent/mount-process.ts'
import { identify, isAlive } from '../../config/process-identity.ts'
import { HowdahError } from '../../messages/errors.ts'
import { pattern } from './support/memory-source.ts'
import { makeScratch, python, type Scratch, shell, startMount } from './support/mounted.ts'

const OWNER = { uid: 0, gid: 0 }

describe('a mount', function () {
  this.timeout(60_000)
  let scratch: Scratch
  let base: string
  let data: string

  beforeEach(async () => {
    scratch = await makeScratch(OWNER)
    base = scratch.base
    data = scratch.data
    mkdirSync(`${base}/sub`)
    writeFileSync(`${base}/sub/table`, pattern(300_000))
    writeFileSync(`${base}/PG_VERSION`, '15\n')
  })
  afterEach(() => scratch.remove())

  it('serves the usual tools', async () => {
    await startMount(scratch, base, OWNER)
    const answer = await shell(
      `cmp sub/table ${base}/sub/table
       cp -a sub copy && diff -r sub copy
       mkdir d && touch d/f && mv d e && rm -r e
       ln PG_VERSION hard && ln -s PG_VERSION soft && cat hard soft
       echo more >> PG_VERSION && wc -l < PG_VERSION
       truncate -s 100 sub/table && stat -c %s sub/table
       dd if=/dev/zero of=big bs=1M count=20 conv=fsync status=none && stat -c %s big
       chmod 640 big && stat -c %a big
       tar cf - sub | tar tf - | sort
       df . > /dev/null && find . -name table | sort`,
      data,
    )
    expect(answer.split('\n')).to.deep.equal(
      '15|15|2|100|20971520|640|sub/|sub/table|./copy/table|./sub/table|'.split('|'),
    )
    expect(readFileSync(`${base}/sub/table`).equals(pattern(300_000))).to.equal(true)
  })

  it('keeps unlinked open files readable, and does not list them', async () => {
    await startMount(scratch, base, OWNER)
    const answer = await python(
      `import os
f = os.open('sub/table', os.O_RDWR)
os.unlink('sub/table')
os.pwrite(f, b'howdah', 8190)
print(os.pread(f, 6, 8190) == b'howdah', os.fstat(f).st_size, os.fstat(f).st_nlink, os.listdir('sub'))
os.ftruncate(f, 10)
print(os.fstat(f).st_size)
os.rmdir('sub')
os.close(f)
g = os.open('PG_VERSION', os.O_RDONLY)
open('draft', 'w').write('16')
os.rename('draft', 'PG_VERSION')
print(os.read(g, 10), open('PG_VERSION').read())`,
      data,
    )
    expect(answer.split('\n')).to.deep.equal(['True 300000 0 []', '10', "b'15\\n' 16"])
  })

  it('supports shared writable mappings (mmap)', async () => {
    const mount = await startMount(scratch, base, OWNER)
    await python(
      `import mmap
with open('sub/table', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[8000:8006] = b'howdah'
    m[250000:250006] = b'howdah'
    m.flush()
    m.close()`,
      data,
    )
    await mount.stop()
    await startMount(scratch, base, OWNER)
    const expected = pattern(300_000)
    for (const at of [8000, 250_000]) expected.write('howdah', at)
    writeFileSync(`${scratch.directory}/expected`, expected)
    await shell(`cmp sub/table ${scratch.directory}/expected`, data)
  })

  it('honours O_APPEND, O_EXCL and O_TRUNC, and opens files with O_DIRECT', async () => {
    await startMount(scratch, base, OWNER)
    const answer = await python(
      `import os, mmap
a = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND); b = os.open('log', os.O_WRONLY | os.O_APPEND)
for i in range(3): os.write(a, b'a'); os.write(b, b'b')
print(open('log').read())
try: os.open('log', os.O_CREAT | os.O_EXCL)
except FileExistsError: print('exists')
os.close(os.open('log', os.O_TRUNC | os.O_WRONLY)); print(os.stat('log').st_size)
d = os.open('direct', os.O_RDWR | os.O_CREAT | os.O_DIRECT)
m = mmap.mmap(-1, 8192); m[:] = b'x' * 8192
print(os.pwritev(d, [m], 8192), os.preadv(d, [m], 0), m[0], os.fstat(d).st_size)`,
      data,
    )
    expect(answer.split('\n')).to.deep.equal(['ababab', 'exists', '0', '8192 8192 0 16384'])
  })

  it('shows in wal/ only files of the archive', async () => {
    await startMount(scratch, base, OWNER)
    const answer = await shell(
      'cat 00000002.history; for f in 000000010000000000000001 x; do test -e $f || echo none; done; touch 00000002.history 2> /dev/null || echo fixed',
      `${scratch.mountPoint}/wal`,
    )
    expect(answer).to.equal('hellonone\nnone\nfixed\n')
  })

  it('reports the bytes fetched and changed', async () => {
    const mount = await startMount(scratch, base, OWNER)
    await shell('head -c 100 sub/table > /dev/null; head -c 8192 /dev/zero > new', data)
    const status = await mount.status()
    expect(status.totalBytes).to.equal(300_003)
    expect(status.fetchedBytes).to.be.within(8192, 200_000)
    expect(status).to.include({ changedBytes: 8192, connected: true })
  })

  it('is found again by an agent that restarted, and unmounts cleanly', async () => {
    const started = await startMount(scratch, base, OWNER)
    await shell('echo kept > kept', data)
    const found = await findMountProcess(scratch.cachePath)
    expect(found?.pid).to.equal(started.pid)
    await found?.stop()
    await started.ended
    expect(isMounted(scratch.mountPoint)).to.equal(false)
    expect(identify(started.pid)).to.equal(undefined)
    expect(await findMountProcess(scratch.cachePath)).to.equal(undefined)
  })

  it('is reused when it already exists', async () => {
    const first = await startMount(scratch, base, OWNER)
    expect((await startMount(scratch, base, OWNER)).pid).to.equal(first.pid)
  })

  it('keeps synced changes after kill -9, and is mounted again over its dead mount without the mount server', async () => {
    const first = await startMount(scratch, base, OWNER)
    await shell('echo kept > kept; sync kept .', data)
    process.kill(first.pid, 'SIGKILL')
    await first.ended
    expect(isMounted(scratch.mountPoint)).to.equal(true)
    const second = await startMount(scratch, `${scratch.directory}/nowhere`, OWNER)
    expect(second.pid).not.to.equal(first.pid)
    expect(await shell('cat kept; ls sub', data)).to.equal('kept\ntable\n')
  })

  it('refuses to unmount while files are in use, unless forced', async () => {
    const mount = await startMount(scratch, base, OWNER)
    const inside = shell(
      'echo in; cat PG_VERSION > /dev/null; exec 3< PG_VERSION; while test -e ../../go; do sleep 0.02; done',
      data,
    )
    writeFileSync(`${scratch.directory}/go`, '')
    let code = ''
    // The shell may need a moment to go in.
    for (let tries = 0; code === '' && tries < 1; tries++) {
      await shell(`until ls -l /proc/[0-9]*/cwd 2> /dev/null | grep -q ${data}; do sleep 0.02; done`, '/')
      code = await mount.stop().then(
        () => 'none',
        (error: HowdahError) => error.code,
      )
    }
    expect(code).to.equal('mount_failed')
    expect((await mount.status()).connected).to.equal(true)
    await mount.stop({ inUse: 'discard' })
    await inside.catch(() => undefined)
    expect(isMounted(scratch.mountPoint)).to.equal(false)
    expect(identify(mount.pid)).to.equal(undefined)
  })

  it('retries the unmount while another process briefly accesses the mount', async () => {
    const mount = await startMount(scratch, base, OWNER)
    const looking = spawn('sh', ['-c', 'echo in; sleep 0.1'], {
      cwd: data,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const gone = once(looking, 'exit')
    await once(looking.stdout, 'data')
    await mount.stop()
    await gone
    expect(isMounted(scratch.mountPoint)).to.equal(false)
  })

  it('flushes and unmounts on SIGTERM', async () => {
    const mount = await startMount(scratch, base, OWNER)
    await shell('echo kept > kept', data)
    process.kill(mount.pid, 'SIGTERM')
    await mount.ended
    expect(isMounted(scratch.mountPoint)).to.equal(false)
    await startMount(scratch, base, OWNER)
    expect(await shell('cat kept', data)).to.equal('kept\n')
  })

  it('reports why it did not start', async () => {
    const error = await startMount(scratch, `${scratch.directory}/nowhere`, OWNER).catch(
      (reason: unknown) => reason,
    )
    expect(error).to.be.instanceOf(HowdahError)
    expect((error as HowdahError).message).to.contain('nowhere')
    expect(isMounted(scratch.mountPoint)).to.equal(false)
    expect(readdirSync(`${scratch.cachePath}/log`)).to.deep.equal(['mount.log'])
  })

  it('does nothing to a path on which nothing is mounted', async () => {
    await clearDeadMount(`${scratch.directory}/nowhere`)
    expect(existsSync(`${scratch.directory}/nowhere`)).to.equal(false)
    expect(isAlive({ pid: process.pid, startTime: '0' })).to.equal(false)
  })
})
