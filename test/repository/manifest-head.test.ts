import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { databaseNames } from '../../agents/mount/formats/pgbackrest/manifest-head.ts'
import { serveRepositories } from '../../agents/mount/served-repositories.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { makeLargeRepository } from './large-repository.ts'

const DATABASES = 5_000

function manifest(section: string): Buffer {
  return Buffer.from(
    `[backup]\nbackup-label="20260102-030405F"\n${section}\n[metadata]\n\n[target:file]\n${'pg_data/x={}\n'.repeat(500_000)}`,
  )
}

const line = (name: string) => `${name}={"db-id":16384,"db-last-system-id":13000}`

describe('the databases that a manifest of pgBackRest names', () => {
  it('are all found, however many there are, without reading the files', async () => {
    const names = Array.from({ length: DATABASES }, (_, index) => `tenant_${String(index).padStart(5, '0')}`)
    const bytes = manifest(
      `\n[db]\n${[...names, 'postgres', 'template0', 'template1'].map(line).join('\n')}\n`,
    )
    let most = 0
    const found = await databaseNames(async (count) => {
      most = Math.max(most, count)
      return bytes.subarray(0, count)
    })
    expect(found).to.deep.equal(['postgres', ...names])
    expect(most).to.be.lessThan(bytes.length)
  })

  it('are not known where it has no such section, which is found out by one short read', async () => {
    let reads = 0
    const found = await databaseNames(async (count) => {
      reads += 1
      return manifest('').subarray(0, count)
    })
    expect(found).to.equal(undefined)
    expect(reads).to.equal(1)
  })

  it('are not known where it cannot be read', async () => {
    expect(await databaseNames(async () => undefined)).to.equal(undefined)
  })

  it('are some of many in an inventory, and how many more there are', async () => {
    const directory = await temporaryDirectory()
    const options = { format: 'pgbackrest', path: join(directory, 'repository') } as const
    const { repository, spool } = openForTest(options, join(directory, 'spool'))
    try {
      const names = Array.from({ length: DATABASES }, (_, index) => `tenant_${index}`.padEnd(63, 'x'))
      await makeLargeRepository(options.path, 1, undefined, names)
      const [listed] = await serveRepositories('here', [
        { options: { name: 'main', ...options }, repository },
      ]).inventory({})
      const [instance] = listed?.instances ?? []
      expect(instance?.databases).to.deep.equal(names.toSorted().slice(0, 100))
      expect(instance?.moreDatabases).to.equal(DATABASES - 100)
    } finally {
      await spool.close()
      await rm(directory, { recursive: true })
    }
  })
})
