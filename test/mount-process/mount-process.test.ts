import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { isMounted } from '../../agents/target/filesystem/drivers/mount-table.ts'
import type { MountProcess } from '../../agents/target/mount-process/agent/mount-process.ts'
import { recoverySettings, restoreScript } from '../../agents/target/postgres/settings/recovery-settings.ts'
import { instancePaths } from '../../agents/target/postgres/specification.ts'
import { identify } from '../../config/process-identity.ts'
import type { HowdahError } from '../../messages/errors.ts'
import { pattern } from '../filesystem/support/memory-source.ts'
import {
  DRIVERS,
  makeScratch,
  python,
  type Scratch,
  shell,
  startMount,
} from '../filesystem/support/mounted.ts'

const OWNER = { uid: 0, gid: 0 }
const INSTANCE = {
  ...{ session: 'shop-1', binaries: '/', version: '15', port: 0 },
  user: { ...OWNER, name: 'root' },
}
const UNRULY = fileURLToPath(new URL('./unruly-main.ts', import.meta.url))

for (const driver of DRIVERS) {
  describe(`a mount process with the driver ${driver}`, function () {
    this.timeout(60_000)
    let scratch: Scratch
    let base: string
    let data: string

    beforeEach(async () => {
      scratch = await makeScratch(OWNER)
      base = scratch.base
      data = scratch.data
      writeFileSync(`${base}/held`, pattern(100_000))
      writeFileSync(`${base}/missing`, pattern(3_000_000, 2))
    })
    afterEach(() => scratch.remove())

    const mount = () => startMount(scratch, base, OWNER, { driver, readDeadlineMs: 30_000 }, UNRULY)

    /** Runs a script that keeps a file open until `close` is called; resolves when it is open. */
    async function holdOpen(path: string, write = ''): Promise<{ close(): Promise<void> }> {
      const [opened, go] = [`${scratch.directory}/opened`, `${scratch.directory}/go`]
      const holder = shell(
        `exec 3<> ${path}; ${write} touch ${opened}; until test -e ${go}; do sleep 0.02; done`,
        data,
      ).catch(() => undefined)
      await shell(`until test -e ${opened}; do sleep 0.02; done`, '/')
      return {
        async close() {
          writeFileSync(go, '')
          await holder
        },
      }
    }

    const gone = (process: MountProcess) => [isMounted(scratch.mountPoint), identify(process.pid)]

    it('answers local reads and its status while other reads wait for the repository', async () => {
      const process = await mount()
      await shell(`cmp held ${base}/held; echo changed > new`, data)
      writeFileSync(`${base}.shut`, '')
      let waiting = true
      const miss = shell(`cmp missing ${base}/missing`, data).finally(() => {
        waiting = false
      })
      for (let round = 0; round < 5; round++) {
        // Past the page cache, by the engine.
        await shell(
          'sync new; cat new; ls; stat held; dd if=held iflag=direct of=/dev/null bs=4096 count=8 status=none',
          data,
        )
        expect((await process.status()).changedBytes).to.be.greaterThan(0)
      }
      expect(waiting).to.equal(true)
      rmSync(`${base}.shut`)
      await miss
    })

    it('answers its status while the mount is busy', async () => {
      const process = await mount()
      const busy = shell(
        'for i in 1 2 3; do dd if=/dev/zero of=big bs=1M count=100 conv=fsync status=none; done',
        data,
      )
      let over = false
      let answers = 0
      busy
        .finally(() => {
          over = true
        })
        .catch(() => undefined)
      while (!over) {
        await process.status()
        answers++
      }
      await busy
      expect(answers).to.be.greaterThan(3)
    })

    it('makes unsynced changes durable on request, dirty pages of open files included', async () => {
      const process = await mount()
      const holder = await holdOpen('big', 'dd if=/dev/urandom bs=1M count=60 status=none >&3;')
      await process.sync()
      await shell(`cp big ${scratch.directory}/copy`, data)
      globalThis.process.kill(process.pid, 'SIGKILL')
      await process.ended
      await holder.close()
      await mount()
      await shell(`cmp big ${scratch.directory}/copy`, data)
    })

    it('provides WAL to the restore script by a rename, and by a copy where that is not possible', async () => {
      const process = await mount()
      const [taken, ready] = [`${scratch.directory}/taken`, `${scratch.cachePath}/ready_wal`]
      const spec = { ...scratch, ...INSTANCE, recoverTo: { type: 'latest' } } as const
      mkdirSync(instancePaths(spec).configuration)
      writeFileSync(instancePaths(spec).restoreScript, restoreScript(spec, 1024 ** 2))
      const command = recoverySettings(spec).get('restore_command') ?? ''
      const segment = (number: number) => `00000003000000000000000${number}`
      const restore = (name: string) => {
        const given = command.replaceAll('%f', name).replaceAll('%p', taken)
        return shell(
          `rm -f ${taken}; (${given}) && echo given || echo $?; test ! -e ${taken} || { head -c 3 ${taken}; stat -c ' %s' ${taken}; }`,
          '/',
        )
      }
      expect(await restore(segment(1))).to.equal('given\n111 1048576\n')
      await shell(`until test -e ${ready}/${segment(2)}; do sleep 0.02; done`, '/')
      const inode = statSync(`${ready}/${segment(2)}`).ino
      expect(await restore(segment(2))).to.equal('given\n222 1048576\n')
      expect(statSync(taken).ino).to.equal(inode)
      expect(await restore('00000002.history')).to.equal('given\nhel 5\n')
      expect(await restore(segment(9))).to.equal('1\n')
      await process.settled()
      expect(readdirSync(ready)).to.deep.equal([])
      rmSync(ready, { recursive: true })
      expect(await restore(segment(3))).to.equal('given\n333 1048576\n')
      expect(readdirSync(`${scratch.cachePath}/wal_drafts`)).to.deep.equal([])
    })

    it('is not unmounted while files are open, still serves them, and is unmounted when they are closed', async () => {
      const process = await mount()
      const holder = await holdOpen('held')
      const code = await process.stop().then(
        () => 'stopped',
        (error: HowdahError) => error.code,
      )
      expect(code).to.equal('mount_failed')
      await shell(`cmp missing ${base}/missing`, data)
      await holder.close()
      await process.stop()
      expect(gone(process)).to.deep.equal([false, undefined])
    })

    it('keeps on SIGTERM writes to files that are still open', async () => {
      const process = await mount()
      const holder = await holdOpen('new', 'dd if=/dev/zero bs=1M count=20 status=none >&3;')
      globalThis.process.kill(process.pid, 'SIGTERM')
      await process.ended
      expect(isMounted(scratch.mountPoint)).to.equal(false)
      await holder.close()
      await mount()
      expect(await shell('stat -c %s new', data)).to.equal('20971520\n')
    })

    it('ends with its mount when its main thread fails, and what was synced is there at the next start', async () => {
      const process = await mount()
      await shell('echo kept > kept; sync kept .', data)
      const holder = await holdOpen('held')
      globalThis.process.kill(process.pid, 'SIGHUP')
      await process.ended
      expect(gone(process)).to.deep.equal([false, undefined])
      await holder.close()
      await mount()
      expect(await shell('cat kept', data)).to.equal('kept\n')
    })

    it('leaves at kill -9 a dead mount, which the next start replaces with everything that was synced', async () => {
      const process = await mount()
      await python(
        `import os
f = os.open('held', os.O_RDWR)
for i in range(10):
    os.pwrite(f, bytes([i]) * 8192, i * 8192)
os.fsync(f)`,
        data,
      )
      globalThis.process.kill(process.pid, 'SIGKILL')
      await process.ended
      expect(isMounted(scratch.mountPoint)).to.equal(true)
      await mount()
      const found = await python("print([open('held', 'rb').read()[i * 8192] for i in range(10)])", data)
      expect(found).to.equal('[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]')
    })

    if (driver === 'kernel') {
      it('syncs its root also after the kernel has forgotten every file of it', async () => {
        await mount()
        // The engine waits for its other thread, which has to wake it, while the kernel holds the root's lock.
        await shell('echo x > new; echo 2 > /proc/sys/vm/drop_caches; timeout 20 sync ..', data)
      })

      it('ends the wait of a killed process while the repository does not answer, also after an earlier signal', async () => {
        await mount()
        await shell('stat missing', data)
        writeFileSync(`${base}.shut`, '')
        const left = await python(
          `
import mmap, os, signal, time
def waiter(work):
    pid = os.fork()
    if pid: return pid
    signal.signal(signal.SIGUSR1, lambda *_: None)
    work(os.open('missing', os.O_RDWR))
    os._exit(1)
def fault(fd):
    pages = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    pages.madvise(mmap.MADV_RANDOM)
    pages[8192 * 50]
# A part of a page is read before it is written.
pids = [waiter(lambda fd: os.pread(fd, 8192, 8192 * 7)), waiter(fault), waiter(lambda fd: os.pwrite(fd, b'part', 8192 * 90 + 5))]
def until(holds):
    while not all(holds(pid) for pid in pids): time.sleep(0.01)
until(lambda pid: any(word in open('/proc/%d/wchan' % pid).read() for word in ['wait_answer', 'fuse', 'folio']))
for pid in pids: os.kill(pid, signal.SIGUSR1)
# From here on only a fatal signal ends these waits.
until(lambda pid: open('/proc/%d/stat' % pid).read().rsplit(') ')[1][0] == 'D')
# INTERRUPTs arrive before any later request.
assert not os.path.exists('nothing')
for pid in pids: os.kill(pid, signal.SIGKILL)
end = time.time() + 10
while pids and time.time() < end:
    pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
    time.sleep(0.05)
print(len(pids))
`,
          data,
        )
        rmSync(`${base}.shut`)
        expect(left).to.equal('0')
      })

      it('ends with its mount when its engine thread fails, and waiting requests get an error', async () => {
        const process = await mount()
        await shell('echo kept > kept; sync kept .', data)
        globalThis.process.kill(process.pid, 'SIGUSR2')
        const answer = await shell(
          'until ! stat . nothing; do :; done 2>&1; cat kept 2>&1 || echo failed',
          data,
        ).catch(() => 'failed')
        expect(answer).to.contain('failed')
        await process.ended
        expect(gone(process)).to.deep.equal([false, undefined])
        await mount()
        expect(await shell('cat kept', data)).to.equal('kept\n')
      })
    }
  })
}
