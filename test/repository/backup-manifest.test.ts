import { createHash } from 'node:crypto'
import { expect } from 'chai'
import { parseBackupManifest } from '../../agents/mount/formats/basebackup/backup-manifest.ts'
import type { HowdahError } from '../../messages/errors.ts'

const MANY = 50_000

/** With the checksum that belongs to it. */
function manifestOf(entries: readonly object[], spaced = false): Buffer {
  const separator = spaced ? ' ,\n\n ' : ',\n'
  const files = entries.map((entry) => JSON.stringify(entry)).join(separator)
  const ranges = '"WAL-Ranges": [\n{ "Timeline": 2, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }\n],\n'
  const text = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7400000000000000001,\n"Files": [ ${files} ],\n${ranges}`
  return Buffer.from(`${text}"Manifest-Checksum": "${createHash('sha256').update(text).digest('hex')}"}\n`)
}

const entry = (Path: string, Size = 8192) => ({
  Path,
  Size,
  'Checksum-Algorithm': 'CRC32C',
  Checksum: 'abcdef01',
})
const PATHS = ['base/1/1', 'a}b', 'quo"te\\', '{"Path": "x"}', 'größe 🐘', '],', '']

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (error as HowdahError).code,
  )
}

describe('a backup_manifest', () => {
  it('has its files, whatever their names, and the rest', async () => {
    for (const spaced of [false, true]) {
      const manifest = await parseBackupManifest(
        manifestOf(
          PATHS.map((path) => entry(path)),
          spaced,
        ),
        'it',
      )
      expect([...manifest.files.keys()]).to.deep.equal(PATHS)
      expect(manifest.files.get('a}b')).to.deep.equal({
        size: 8192,
        checksum: { algorithm: 'crc32c', hex: 'abcdef01' },
      })
      expect(manifest).to.deep.include({
        bytes: 8192 * PATHS.length,
        walRange: { timeline: 2, start: '0/2000028', end: '0/2000100' },
        systemIdentifier: '7400000000000000001',
      })
    }
  })

  it('may list none, and is read without keeping them', async () => {
    expect((await parseBackupManifest(manifestOf([]), 'it')).files.size).to.equal(0)
    const { files, bytes } = await parseBackupManifest(manifestOf([entry('a')]), 'it', { files: false })
    expect([files.size, bytes]).to.deep.equal([0, 8192])
  })

  it('is refused when it was cut off anywhere, or has any byte changed', async () => {
    const good = manifestOf([entry('base/1/1'), entry('a}b')])
    for (let end = 0; end < good.length - 2; end += 1)
      expect(await codeOf(parseBackupManifest(good.subarray(0, end), 'it')), `${end}`).to.equal(
        'backup_damaged',
      )
    for (let at = 0; at < good.length - 2; at += 1) {
      const bytes = Buffer.from(good)
      bytes[at] = (bytes[at] ?? 0) ^ 1
      expect(await codeOf(parseBackupManifest(bytes, 'it')), `byte ${at}`).to.equal('backup_damaged')
    }
  })

  it('is refused with entries of another form, although its checksum is right', async () => {
    for (const wrong of [{ Path: 'a' }, { Size: 1 }, { Path: 'a', Size: -1 }, { Path: 1, Size: 1 }, [], 7])
      expect(await codeOf(parseBackupManifest(manifestOf([wrong as object]), 'it'))).to.equal(
        'backup_damaged',
      )
    const long = entry('x'.repeat(100_000))
    expect(await codeOf(parseBackupManifest(manifestOf([long]), 'it'))).to.equal('backup_damaged')
  })

  it('lets others have a turn while it is read', async () => {
    const bytes = manifestOf(Array.from({ length: MANY }, (_, index) => entry(`base/5/${index}`)))
    let turns = 0
    let parsed = false
    const count = (): void => {
      turns += 1
      if (!parsed) setImmediate(count)
    }
    setImmediate(count)
    expect((await parseBackupManifest(bytes, 'it')).files.size).to.equal(MANY)
    parsed = true
    expect(turns).to.be.greaterThan(MANY / 2_000 - 2)
  })
})
