/** systemd-tmpfiles on what sessions keep in /var/tmp: a real one, for which everything is old. */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { type AgeingLock, createAgeingLock } from '../../agents/target/room/ageing-lock.ts'
import { pattern } from '../filesystem/support/memory-source.ts'
import { makeScratch, type Scratch, shell, startMount } from '../filesystem/support/mounted.ts'

const run = promisify(execFile)
const OWNER = { uid: 0, gid: 0 }

describe('the ageing of temporary files', function () {
  this.timeout(60_000)
  let scratch: Scratch
  let lock: AgeingLock

  beforeEach(async () => {
    scratch = await makeScratch(OWNER)
    lock = createAgeingLock(`${scratch.directory}/root`)
  })
  afterEach(async () => {
    lock.close()
    await scratch.remove()
  })

  /** Deletes everything that is not below a locked directory. */
  async function age(): Promise<void> {
    const rules = '/var/tmp/howdah-ageing.conf'
    writeFileSync(rules, `e ${scratch.directory} - - - 0\n`)
    try {
      await run('systemd-tmpfiles', ['--clean', rules])
    } finally {
      rmSync(rules)
    }
  }
  const files = (directory: string) =>
    readdirSync(directory).filter((name) => statSync(`${directory}/${name}`).isFile())
  /** Resolves when the directory is locked; the test's deadline ends it otherwise. */
  async function locked(directory: string): Promise<void> {
    const { ino } = statSync(directory)
    const line = new RegExp(`FLOCK .*:${ino} `)
    while (!line.test(readFileSync('/proc/locks', 'latin1'))) await sleep(20)
  }

  it('takes nothing of a mounted session, nor of the store of fetched blocks that it uses', async () => {
    writeFileSync(`${scratch.base}/file`, pattern(1_000_000))
    mkdirSync(`${scratch.directory}/nobody`)
    writeFileSync(`${scratch.directory}/nobody/old`, '')
    const stores = `${scratch.directory}/fetched`
    await startMount(scratch, scratch.base, OWNER, {
      backup: { repository: 'r', instance: 'i', label: 'l' },
      fetched: { directory: stores, budgetBytes: 1024 ** 3 },
    })
    await shell('cat file > /dev/null; echo more >> file; sync file', scratch.data)
    const [key = ''] = readdirSync(stores).filter((name) => /^[0-9a-f]{40}$/.test(name))
    await locked(`${stores}/${key}`)
    await age()
    expect(existsSync(`${scratch.directory}/nobody/old`)).to.equal(false)
    expect(files(`${stores}/${key}`)).to.include.members(['blocks.data', 'index.sqlite'])
    expect(files(scratch.cachePath)).to.include.members(['journal.sqlite', 'tree.bin', 'mount.json'])
    expect(files(`${scratch.cachePath}/files`).length).to.equal(1)
  })

  it('takes nothing below a root that the agent has locked, also when it is created again', async () => {
    const root = `${scratch.directory}/root`
    const kept = `${root}/session/journal.sqlite`
    for (const round of ['first', 'second']) {
      rmSync(root, { recursive: true, force: true })
      mkdirSync(`${root}/session`, { recursive: true })
      writeFileSync(kept, '')
      lock.take()
      lock.take()
      await locked(root)
      await age()
      expect(existsSync(kept), round).to.equal(true)
    }
    lock.close()
    await age()
    expect(existsSync(kept)).to.equal(false)
  })
})
