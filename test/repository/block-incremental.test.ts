/** Block incremental files and encryption of pgBackRest: random access, checksums, and damage. */
import { createHash } from 'node:crypto'
import { open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { readBlockMap } from '../../agents/mount/formats/pgbackrest/block-map.ts'
import type { OpenBackup, RepositoryOptions } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { HowdahError } from '../../messages/errors.ts'
import { makeBlockRepository, PASSPHRASE } from './block-repository.ts'
import { BLOCK_CHECKSUM_BYTES } from './block-writer.ts'
import { extractFixture, type Fixture, openForTest, temporaryDirectory } from './fixture.ts'
import { infoFile } from './large-repository.ts'
import { dice } from './reference.ts'

async function failure(work: () => Promise<unknown>): Promise<HowdahError> {
  const error = await work().then(
    () => undefined,
    (caught: unknown) => caught,
  )
  expect(error).to.be.instanceOf(HowdahError)
  return error as HowdahError
}

async function filesOf(backup: OpenBackup): Promise<TreeEntry[]> {
  const files: TreeEntry[] = []
  for await (const batch of backup.tree()) files.push(...batch.filter(({ kind }) => kind === 'file'))
  return files
}

describe('a block incremental pgBackRest repository', function () {
  this.timeout(60_000)
  let scratch: string
  let spools: Spool[]

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    spools = []
  })
  afterEach(async () => {
    for (const spool of spools) await spool.close()
    await rm(scratch, { recursive: true, force: true })
  })

  const root = () => join(scratch, 'repo')

  async function openBackup(label: string, options: Partial<RepositoryOptions> = {}): Promise<OpenBackup> {
    const { repository, spool } = openForTest(
      { format: 'pgbackrest', path: root(), ...options },
      join(scratch, `spool-${spools.length}`),
    )
    spools.push(spool)
    return (await repository.instance('demo')).open(label)
  }

  async function withPassphrase(text = PASSPHRASE): Promise<{ passphraseFile: string }> {
    const passphraseFile = join(scratch, 'passphrase')
    await writeFile(passphraseFile, `${text}\n`)
    return { passphraseFile }
  }

  for (const compression of ['none', 'gz', 'zst', 'lz4'] as const) {
    for (const encrypted of [false, true]) {
      it(`reads every byte of every backup, in any order: ${compression}${encrypted ? ', encrypted' : ''}`, async () => {
        const random = dice(11)
        const { labels, contents } = await makeBlockRepository(root(), { compression, encrypted }, random)
        const options = encrypted ? await withPassphrase() : {}
        for (const [index, label] of labels.entries()) {
          const backup = await openBackup(label, options)
          for (const { path, file, size } of await filesOf(backup)) {
            const expected = contents[index]?.get(path)
            if (expected === undefined || file === undefined) throw new Error(`${path} is not expected`)
            expect(size).to.equal(expected.length)
            for (let round = 0; round < 8; round++) {
              const offset = random(size)
              const length = 1 + random(round % 3 === 0 ? 300_000 : 9000)
              const got = await backup.read(file, offset, length)
              const wanted = expected.subarray(offset, offset + length)
              expect(got.equals(wanted), `${length} bytes of ${path} at ${offset}`).to.equal(true)
            }
            expect((await backup.read(file, 0, size + 10)).equals(expected), path).to.equal(true)
          }
        }
      })
    }
  }

  it('reads no more of a file than its map and the super blocks of the range', async () => {
    const { labels } = await makeBlockRepository(root(), { compression: 'zst', encrypted: false }, dice(3))
    const label = labels[0] ?? ''
    const path = join(root(), 'backup/demo', label, 'pg_data/base/1/2000.pgbi')
    const stored = await readFile(path)
    // All but the first super block and the map is not there any more.
    stored.fill(0, 100_000, stored.length - 2000)
    await writeFile(path, stored)
    const backup = await openBackup(label)
    const entry = backup.entry('data/base/1/2000')
    expect((await backup.read(entry?.file ?? -1, 0, 131_072)).length).to.equal(131_072)
    const error = await failure(() => backup.read(entry?.file ?? -1, 200_000, 10))
    expect(error).to.include({ code: 'backup_damaged' })
    expect(error.message).to.include('pg_data/base/1/2000').and.include(label)
  })

  for (const encrypted of [false, true]) {
    it(`finds a flipped bit that decodes, by the block's checksum${encrypted ? ', encrypted' : ''}`, async () => {
      const { labels } = await makeBlockRepository(root(), { compression: 'none', encrypted }, dice(5))
      const label = labels[0] ?? ''
      const path = join(root(), 'backup/demo', label, 'pg_data/base/1/2000.pgbi')
      const handle = await open(path, 'r+')
      await handle.write(Buffer.from([0xff, 0xee, 0xdd]), 0, 3, 50_001)
      await handle.close()
      const backup = await openBackup(label, encrypted ? await withPassphrase() : {})
      const file = backup.entry('data/base/1/2000')?.file ?? -1
      expect((await backup.read(file, 0, 8192)).length).to.equal(8192)
      const error = await failure(() => backup.read(file, 49_152, 8192))
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('checksum').and.include('pg_data/base/1/2000')
    })
  }

  it('compares the checksum of a whole file that was read in parts, unless verifyChecksums is off', async () => {
    const { labels } = await makeBlockRepository(root(), { compression: 'none', encrypted: false }, dice(6))
    const label = labels[0] ?? ''
    const manifestPath = join(root(), 'backup/demo', label, 'backup.manifest')
    const sections: Record<string, [string, unknown][]> = {}
    let section = ''
    for (const line of (await readFile(manifestPath, 'utf8')).split('\n')) {
      const header = /^\[(.*)\]$/.exec(line)?.[1]
      if (header !== undefined) section = header
      const [, key, value] = /^([^=]+)=(.*)$/.exec(line) ?? []
      if (key === undefined || value === undefined || section === 'backrest') continue
      const text = key.endsWith('2000') ? value.replace(/"checksum":"../, '"checksum":"00') : value
      sections[section] = [...(sections[section] ?? []), [key, JSON.parse(text)]]
    }
    await writeFile(manifestPath, infoFile(sections))
    const readAll = async (options: Partial<RepositoryOptions>) => {
      const backup = await openBackup(label, options)
      const entry = backup.entry('data/base/1/2000')
      const offsets = [...Array(Math.ceil((entry?.size ?? 0) / 50_000)).keys()].map((n) => n * 50_000)
      // The order in which answers come is not that of the questions.
      for (const offset of offsets.reverse()) await backup.read(entry?.file ?? -1, offset, 50_000)
    }
    expect((await failure(() => readAll({}))).message).to.include('checksum')
    await readAll({ verifyChecksums: false })
  })

  it('says that a passphrase is wrong, missing or not needed, and which file to look at', async () => {
    const { labels } = await makeBlockRepository(root(), { compression: 'none', encrypted: true }, dice(7))
    const label = labels[0] ?? ''
    const wrong = await failure(async () => openBackup(label, await withPassphrase('another')))
    expect(wrong).to.include({ code: 'configuration' })
    expect(wrong.message).to.include('does not open').and.include(join(scratch, 'passphrase'))
    const missing = await failure(() => openBackup(label))
    expect(missing).to.include({ code: 'configuration' })
    expect(missing.message).to.include('encrypted').and.include('passphraseFile')
    const gone = await failure(() => openBackup(label, { passphraseFile: join(scratch, 'nowhere') }))
    expect(gone).to.include({ code: 'configuration' })
    expect(gone.message).to.include('nowhere')
    await rm(root(), { recursive: true })
    await makeBlockRepository(root(), { compression: 'none', encrypted: false }, dice(7))
    const needless = await failure(async () => openBackup(label, await withPassphrase()))
    expect(needless.message).to.include('not encrypted')
  })

  it('reports a damaged encrypted file as damaged, not as a wrong passphrase', async () => {
    const { labels } = await makeBlockRepository(root(), { compression: 'none', encrypted: true }, dice(8))
    for (const damage of [
      (bytes: Buffer) => bytes.fill(7, 400, 420),
      (bytes: Buffer) => bytes.subarray(0, 333),
    ]) {
      const path = join(root(), 'backup/demo/backup.info')
      const whole = await readFile(path)
      await writeFile(path, damage(Buffer.from(whole)))
      const error = await failure(async () => openBackup(labels[0] ?? '', await withPassphrase()))
      expect(error).to.include({ code: 'backup_damaged' })
      await writeFile(`${path}.copy`, whole)
      expect((await openBackup(labels[0] ?? '', await withPassphrase())).fileCount).to.equal(4)
      await rm(`${path}.copy`)
      await writeFile(path, whole)
    }
  })

  it('keeps a map of a million blocks in a few megabytes', () => {
    // Every other block was changed by itself, which makes the longest map that there is: for each block the number of its
    // backup, its distance of 8192 bytes from the one before of that backup, its size, which is always the same, and its
    // checksum. The first of either backup has offset and size itself.
    const blocks = 1_000_000
    const entry = BLOCK_CHECKSUM_BYTES + 4
    const body = Buffer.alloc((blocks - 2) * entry)
    for (let n = 0; n < blocks - 2; n++) {
      body[n * entry] = (n % 2 === 0 ? 8 : 0) + 4 + (n === blocks - 3 ? 1 : 0)
      body[n * entry + 1] = 0x80
      body[n * entry + 2] = 0x40
      body[n * entry + 3] = 1
      body.fill(n % 251, n * entry + 4, (n + 1) * entry)
    }
    const checksum = Buffer.alloc(BLOCK_CHECKSUM_BYTES)
    const map = readBlockMap(
      Buffer.concat([
        Buffer.from([0, 8, 0x81, 0x80, 0x04]),
        checksum,
        Buffer.from([4, 0x80, 0x40, 1]),
        checksum,
        body,
      ]),
      { size: blocks * 8192, blockSize: 8192, checksumSize: BLOCK_CHECKSUM_BYTES },
    )
    expect(map.bytes).to.be.lessThan(64 * 1024 * 1024)
    const run = map.runOf(777_777)
    expect(map.superBlock(run.superBlock)).to.include({
      reference: 0,
      offset: 777_777 * 8192,
      storedBytes: 8192,
    })
    expect(map.checksum(777_777).equals(Buffer.alloc(6, 777_775 % 251))).to.equal(true)
  })

  it('that pgBackRest itself wrote matches the checksums of its manifests', async function () {
    for (const name of ['block-lz4', 'block-zst-aes', 'plain-gz-incr']) {
      const fixture: Fixture | undefined = await extractFixture(name)
      if (fixture === undefined) return this.skip()
      try {
        const options: Partial<RepositoryOptions> =
          name === 'block-zst-aes' ? await withPassphrase('correct-horse-battery-staple') : {}
        for (const label of fixture.labels) {
          const backup = await openBackup(label, { path: fixture.repository, ...options })
          let bytes = 0
          for (const { path, file, size } of await filesOf(backup)) {
            if (file === undefined) continue
            const hash = createHash('sha1')
            for (let offset = 0; offset < size; offset += 1_000_000) {
              hash.update(await backup.read(file, offset, 1_000_000))
            }
            // Read to its end it was compared already; this shows that there was a checksum to compare.
            const stored = await checksums(fixture.repository, label)
            if (stored !== undefined) expect(hash.digest('hex'), path).to.equal(stored.get(path))
            bytes += size
          }
          expect(bytes).to.equal(backup.totalBytes)
        }
        expect(await readdir(join(fixture.repository, 'backup'))).to.deep.equal(['demo'])
      } finally {
        await rm(fixture.directory, { recursive: true, force: true })
      }
    }
  })

  const known = new Map<string, Promise<Map<string, string> | undefined>>()
  /** From a manifest, by tree path; undefined where it is encrypted. */
  function checksums(repository: string, label: string): Promise<Map<string, string> | undefined> {
    const path = join(repository, 'backup/demo', label, 'backup.manifest')
    const read = async () => {
      const text = await readFile(path, 'utf8')
      if (text.startsWith('Salted__')) return undefined
      const lines = text.matchAll(/^pg_([^=\n]+)=\{.*"checksum":"([0-9a-f]{40})"/gm)
      return new Map([...lines].map(([, name, sha1]) => [name ?? '', sha1 ?? '']))
    }
    const found = known.get(path) ?? read()
    known.set(path, found)
    return found
  }
})
