/** Manifests with many files: what is read of their lines, and for how long the result is shared. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { MalformedInfo } from '../../agents/mount/formats/pgbackrest/ini.ts'
import { parseManifest } from '../../agents/mount/formats/pgbackrest/manifest.ts'
import { createManifestCache } from '../../agents/mount/formats/pgbackrest/manifest-cache.ts'
import type { HowdahError } from '../../messages/errors.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { infoFile, LABEL, makeLargeRepository } from './large-repository.ts'

const LINE = { size: 8192, timestamp: 1_700_000_000 }

/** A manifest with these files. */
function manifestOf(files: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(
    infoFile({
      backup: [['backup-label', LABEL]],
      'target:file': Object.entries(files),
      'target:path': [
        ['pg_data', {}],
        ['pg_data/base', {}],
      ],
    }),
  )
}

const entriesOf = async (bytes: Buffer) =>
  [...(await parseManifest(bytes, 'the manifest')).tree.entries()].flat()

async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work()
    return 'none'
  } catch (error) {
    return error instanceof MalformedInfo ? 'malformed' : (error as HowdahError).code
  }
}

describe('a manifest', function () {
  this.timeout(30_000)

  it('has the fields of a file among any others, and in any order', async () => {
    const files = {
      'pg_data/a': { ...LINE, 'checksum-page': false, 'checksum-page-error': [1, [3, 5]], group: 'x' },
      'pg_data/b': { timestamp: 5, mode: '0640', size: 0, master: true, user: 'josé', nothing: null },
      'pg_data/c=d': { bni: 1, ...LINE, reference: LABEL, note: 'a "quoted" = {brace}' },
      'pg_data/größe 🐘': LINE,
      'pg_data/quote"\\': LINE,
    }
    const entries = await entriesOf(manifestOf(files))
    const named = new Map(entries.map((entry) => [entry.path, entry]))
    expect(named.get('data/a')).to.include({ size: 8192, mtime: 1_700_000_000, mode: 0o600 })
    expect(named.get('data/b')).to.include({ size: 0, mtime: 5, mode: 0o640 })
    for (const path of ['data/c=d', 'data/größe 🐘', 'data/quote"\\']) {
      expect(named.get(path), path).to.include({ size: 8192 })
    }
    expect((await parseManifest(manifestOf(files), 'x')).references).to.deep.equal([LABEL])
  })

  it('names the files in which pgBackRest found damaged pages', async () => {
    const files = {
      'pg_data/a': { ...LINE, 'checksum-page': false, 'checksum-page-error': [1, [3, 5]] },
      'pg_data/base/b': { 'checksum-page': false, ...LINE },
      'pg_data/c': { ...LINE, 'checksum-page': true },
      'pg_data/d': LINE,
    }
    expect((await parseManifest(manifestOf(files), 'x')).pageErrors).to.deep.equal(['data/a', 'data/base/b'])
  })

  it('says where the bytes of a file are when it is read', async () => {
    const line = { ...LINE, bni: 3, bno: 12, checksum: 'ab', reference: 'other' }
    const { tree } = await parseManifest(manifestOf({ 'pg_data/x': line, 'pg_data/y': LINE }), 'x')
    const [x] = [...tree.entries()].flat().filter(({ path }) => path === 'data/x')
    expect(tree.source(x?.file ?? -1)?.source).to.deep.equal(line)
    expect(tree.source(0)).to.equal(undefined)
    expect(tree.source(99)).to.equal(undefined)
  })

  it('is refused when a line is malformed in any way', async () => {
    const wrong = [{ size: '8192' }, { size: -1 }, { size: 1.5 }, { timestamp: undefined }, { size: null }]
    for (const fields of [...wrong, { mode: '9999' }, { mode: 600 }, { size: 1e30 }]) {
      const manifest = manifestOf({ 'pg_data/a': { ...LINE, ...fields } })
      expect(await codeOf(() => entriesOf(manifest)), JSON.stringify(fields)).to.equal('malformed')
    }
    for (const value of [[], 7, 'text', null]) {
      expect(await codeOf(() => entriesOf(manifestOf({ 'pg_data/a': value })))).to.equal('malformed')
    }
    expect(await codeOf(() => entriesOf(manifestOf({ 'pg_other/a': LINE })))).to.equal('malformed')
    expect(await codeOf(() => entriesOf(manifestOf({ 'pg_data/../a': LINE })))).to.equal('backup_damaged')
    expect(await codeOf(() => entriesOf(manifestOf({ 'pg_data/base/..': LINE })))).to.equal('backup_damaged')
  })

  it('is refused with any byte changed', async () => {
    const good = manifestOf({ 'pg_data/a': LINE, 'pg_data/base/1': LINE })
    expect(await codeOf(() => entriesOf(good))).to.equal('none')
    const end = good.indexOf('\n\n[backrest]')
    for (let at = 0; at < end; at++) {
      const bytes = Buffer.from(good)
      bytes[at] = (bytes[at] ?? 0) ^ 1
      // Between sections any number of empty lines may stand, and empty sections.
      if (bytes.toString().split(/\n+/).join('\n') === good.toString().split(/\n+/).join('\n')) continue
      expect(await codeOf(() => entriesOf(bytes)), `byte ${at}`).to.not.equal('none')
    }
  })

  it('of 100,000 files is opened and read', async () => {
    const directory = await temporaryDirectory()
    const { repository, spool } = openForTest(
      { format: 'pgbackrest', path: join(directory, 'repo') },
      join(directory, 'spool'),
    )
    try {
      await makeLargeRepository(join(directory, 'repo'), 100_000)
      const backup = await (await repository.instance('demo')).open(LABEL)
      expect(backup.fileCount).to.equal(100_000)
      let last: number | undefined
      for await (const batch of backup.tree()) last = batch.at(-1)?.file ?? last
      expect((await backup.read(last ?? -1, 0, 9000)).equals(Buffer.alloc(8192))).to.equal(true)
      await backup.close()
    } finally {
      await spool.close()
      await rm(directory, { recursive: true })
    }
  })

  it('is parsed once for all openings of the backup, and again when the file was changed', async () => {
    const directory = await temporaryDirectory()
    try {
      const path = join(directory, 'backup.manifest')
      const cache = createManifestCache()
      let reads = 0
      const get = () =>
        cache.get(path, async () => {
          reads += 1
          return parseManifest(await readFile(path), path)
        })
      await mkdir(directory, { recursive: true })
      await writeFile(path, manifestOf({ 'pg_data/a': LINE }))
      const [first, beside] = await Promise.all([get(), get()])
      const again = await get()
      expect(reads).to.equal(1)
      expect([beside.tree, again.tree]).to.deep.equal([first.tree, first.tree])

      await writeFile(path, manifestOf({ 'pg_data/a': LINE, 'pg_data/b': LINE }))
      expect((await get()).tree.fileCount).to.equal(2)
      expect(first.tree.fileCount).to.equal(1)
      expect(reads).to.equal(2)

      await writeFile(path, 'nonsense')
      expect(await get().catch((error: unknown) => error instanceof MalformedInfo)).to.equal(true)
      await writeFile(path, manifestOf({ 'pg_data/c': LINE }))
      expect((await get()).tree.fileCount).to.equal(1)
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})
