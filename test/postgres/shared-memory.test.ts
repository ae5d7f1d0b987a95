import { execFile } from 'node:child_process'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { isTransientState } from '../../agents/target/postgres/connections/superuser.ts'
import {
  sharedMemoryDenied,
  sharedMemoryShortage,
  sharedMemoryWarning,
} from '../../agents/target/postgres/process/shared-memory-space.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)

describe('The space for shared memory', () => {
  let directory: string

  before(async () => {
    directory = await scratchDirectory('howdah-shared-memory-')
    await chmod(directory, 0o755)
  })
  after(() => rm(directory, { recursive: true, force: true }))

  async function withTmpfs(size: string, look: (path: string) => Promise<void>): Promise<void> {
    const path = join(directory, 'shm')
    await mkdir(path)
    await run('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=1777`, 'none', path])
    try {
      await look(path)
    } finally {
      await run('umount', [path])
      await rm(path, { recursive: true })
    }
  }

  it('is reported with path, size and remedy where it is too little', async function () {
    if (process.geteuid?.() !== 0) return this.skip()
    await withTmpfs('16k', async (path) => {
      expect(await sharedMemoryShortage(path)).to.match(/shm on the target has 16 kB.*too little.*--shm-size/)
    })
    await withTmpfs('32m', async (path) => {
      expect(await sharedMemoryShortage(path)).to.equal(undefined)
      expect(await sharedMemoryWarning(path)).to.match(/has 32768 kB.*parallel queries may fail/)
    })
    await withTmpfs('64m', async (path) => {
      expect(await sharedMemoryWarning(path)).to.equal(undefined)
    })
  })

  it('is not awaited: a server that refuses connections without it is not starting up', () => {
    expect(['57P03', '53300', '53100', '53200'].map(isTransientState)).to.deep.equal([
      true,
      true,
      false,
      false,
    ])
  })

  it('is reported as missing where the directory is', async () => {
    expect(await sharedMemoryShortage(join(directory, 'absent'))).to.include('is missing')
  })

  it('is reported as unusable for a user who may not write there', async function () {
    if (process.geteuid?.() !== 0) return this.skip()
    const user = await postgresAccount()
    expect(await sharedMemoryDenied(user, directory)).to.match(/"postgres" cannot make .*Permission denied/)
    expect(await sharedMemoryDenied(user)).to.equal(undefined)
  })
})
