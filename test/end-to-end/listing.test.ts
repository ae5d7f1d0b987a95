import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { temporaryDirectory } from '../repository/fixture.ts'
import { makeLargeArchive } from '../repository/large-archive.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'

const BACKUPS = 1_000
const LAUNCHER = fileURLToPath(new URL('../../bin/howdah', import.meta.url))

describe('a list of 1,000 backups', function () {
  this.timeout(60_000)
  let directory: string
  let fleet: Fleet

  before(async () => {
    directory = await temporaryDirectory()
    makeLargeArchive(join(directory, 'repository'), BACKUPS, 4 * BACKUPS)
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: join(directory, 'repository') }],
    })
  })
  after(async () => {
    await fleet?.remove()
    await rm(directory, { recursive: true, force: true })
  })

  const shell = (script: string) =>
    promisify(execFile)('sh', ['-c', script, LAUNCHER], {
      env: { ...process.env, HOWDAH_BROKER_URL: fleet.brokerUrl },
      maxBuffer: 16 * 1024 ** 2,
    })

  it('reaches a slow reader completely, although a pipe cannot hold it', async () => {
    const { stdout } = await shell('"$0" backups | (sleep 2; cat)')
    expect(Buffer.byteLength(stdout)).to.be.greaterThan(64 * 1024)
    expect(stdout.split('\n').filter((line) => /\bfull\b/.test(line))).to.have.length(BACKUPS)
  })

  it('ends when its reader closes the pipe', async () => {
    const { stdout } = await shell('"$0" backups | (sleep 2; head -n 5)')
    expect(stdout.trimEnd().split('\n')).to.have.length(5)
  })
})
