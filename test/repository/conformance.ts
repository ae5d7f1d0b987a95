/**
 * One suite for all repository formats: what a reader shows must be what the backup tool itself restores, byte for
 * byte, and the repository must be the same afterwards.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import type { OpenBackup, RepositoryFormat } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { directoryDigest } from '../support/digest.ts'
import { isAsRestored } from '../support/version-differences.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { dice, walk } from './reference.ts'

/** A backup on one side, and on the other the directories that the backup tool makes of it. */
export interface Subject {
  readonly format: RepositoryFormat
  readonly repository: string
  /** With path and passphrase of the repository. */
  readonly configFile?: string
  readonly instance: string
  readonly label: string
  readonly data: string
  /** Parent of `<oid>` directories. */
  readonly tablespaces: string
  /** What is in the backup and deliberately not restored by the tool, and the other way round; `…/` for all below. */
  readonly ignored: readonly string[]
  /** Names of WAL files, and how the tool gives each. */
  readonly wal: readonly string[]
  readonly getWal: (name: string) => Promise<Buffer>
  /** Whether the tool gives files the times that the backup has. Default true. */
  readonly keepsTimes?: boolean
}

/** @param prepare makes the subject; undefined: it cannot be had here */
export function conforms(title: string, prepare: () => Promise<Subject | undefined>): void {
  describe(title, () => {
    let subject: Subject
    let before_: string
    let scratch: string
    let spool: Spool
    let backup: OpenBackup
    let entries: TreeEntry[]

    before(async function () {
      const prepared = await prepare()
      if (prepared === undefined) return this.skip()
      subject = prepared
      before_ = directoryDigest(subject.repository)
      scratch = await temporaryDirectory()
      const opened = openForTest(
        subject.configFile === undefined
          ? { format: subject.format, path: subject.repository }
          : { format: subject.format, configFile: subject.configFile },
        join(scratch, 'spool'),
      )
      spool = opened.spool
      backup = await (await opened.repository.instance(subject.instance)).open(subject.label)
      entries = await allOf(backup)
    })
    after(async () => {
      await backup?.close()
      await spool?.close()
      if (scratch !== undefined) await rm(scratch, { recursive: true })
    })

    it('lists exactly what the tool restores, parents first', async () => {
      const restoredTree = new Map<string, { kind: string; mode: number; size: number; mtime: number }>()
      for (const [name, found] of walk(subject.data)) {
        restoredTree.set(name === '.' ? 'data' : `data/${name}`, found)
      }
      for (const [name, found] of walk(subject.tablespaces)) {
        if (name !== '.') restoredTree.set(`tblspc/${name}`, found)
      }
      const seen = new Set<string>()
      for (const entry of entries) {
        const above = entry.path.slice(0, entry.path.lastIndexOf('/'))
        if (entry.path !== 'data' && !/^tblspc\/\d+$/.test(entry.path)) {
          expect(seen.has(above), `${entry.path} after its directory`).to.equal(true)
        }
        seen.add(entry.path)
      }
      for (const name of restoredTree.keys()) if (isIgnored(name)) restoredTree.delete(name)
      const listed = entries.filter(({ path }) => !isIgnored(path))
      expect(listed.map(({ path }) => path)).to.have.members([...restoredTree.keys()])
      for (const { path, kind, mode, size, mtime } of listed) {
        const found = restoredTree.get(path)
        expect({ path, kind, size }).to.include({ kind: found?.kind, size: found?.size })
        if (kind !== 'symlink') expect(mode, `mode of ${path}`).to.equal(found?.mode)
        if (kind === 'file' && subject.keepsTimes !== false)
          expect(Math.floor(mtime), `mtime of ${path}`).to.equal(found?.mtime)
      }
    })

    it('keeps tablespace links with the target that the backup recorded', async () => {
      const links = entries.filter(({ kind }) => kind === 'symlink')
      expect(links.map(({ path }) => path)).to.deep.equal(
        backup.tablespaces.map((oid) => `data/pg_tblspc/${oid}`),
      )
      // Relative where somebody made them so, in order that a plain copy can be moved.
      for (const { linkTarget } of links) expect(linkTarget).to.match(/^(\/|\.\.\/)/)
    })

    it('reports the totals and the summary that the tool reports', async () => {
      const files = entries.filter(({ kind }) => kind === 'file')
      expect(backup.fileCount).to.equal(files.length)
      expect(backup.totalBytes).to.equal(files.reduce((sum, { size }) => sum + size, 0))
      const postgresVersion = versionFile().trim()
      expect(backup.summary).to.include({ label: subject.label, postgresVersion, timeline: 1 })
      expect(backup.summary.startWal).to.match(/^0000000100000000[0-9A-F]{8}$/)
      expect(backup.summary.stopWal).to.match(/^0000000100000000[0-9A-F]{8}$/)
      const control = await readFile(join(subject.data, 'global/pg_control'))
      expect(backup.summary.systemIdentifier).to.equal(control.readBigUInt64LE(0).toString())
      if (subject.format === 'pgbackrest') expect(backup.summary.bytes).to.equal(backup.totalBytes)
    })

    it('reads ranges at odd offsets', async () => {
      const random = dice(7)
      const large = entries.filter(({ size }) => size > 100_000)
      for (let round = 0; round < 60; round += 1) {
        const entry = large[random(large.length)]
        if (entry?.file === undefined) throw new Error('no large file')
        const offset = random(entry.size)
        const length = 1 + random(300_000)
        const expected = readFileSync(onDisk(entry.path)).subarray(offset, offset + length)
        const got = await backup.read(entry.file, offset, length)
        expect(got.equals(expected), `${length} bytes of ${entry.path} at ${offset}`).to.equal(true)
      }
    })

    it('reads every byte that the tool restores', async () => {
      for (const { path, kind, size, file } of entries) {
        if (kind !== 'file' || isIgnored(path)) continue
        if (file === undefined) {
          expect(size, path).to.equal(0)
          continue
        }
        const got = await readAll(backup, file, size)
        expect(isAsRestored(path, got, readFileSync(onDisk(path))), path).to.equal(true)
      }
    })

    it('ends a read at the end of the file', async () => {
      const entry = entries.find(({ path }) => path === 'data/PG_VERSION')
      const past = await backup.read(entry?.file ?? -1, 100, 10)
      expect(past.length).to.equal(0)
      expect((await backup.read(entry?.file ?? -1, 1, 100)).toString()).to.equal(versionFile().slice(1))
    })

    it('decodes WAL as the tool does', async () => {
      expect(subject.wal).to.not.be.empty
      for (const name of subject.wal) {
        const expected = await subject.getWal(name)
        expect(await backup.walSize(name), name).to.equal(expected.length)
        const head = await backup.walRead(name, 0, 8192)
        const rest = await backup.walRead(name, 8192, expected.length)
        expect(Buffer.concat([head, rest]).equals(expected), name).to.equal(true)
      }
    })

    it('serves stored WAL that decodes to the same bytes, where it serves it', async () => {
      for (const name of subject.wal) {
        const stored = await backup.walStored(name)
        if (stored === undefined) continue
        const bytes = await backup.walReadStored(name, 0, stored.bytes)
        expect(bytes.length).to.equal(stored.bytes)
        const plain = stored.compression === 'gz' ? gunzipSync(bytes) : zstdDecompressSync(bytes)
        expect(plain.equals(await subject.getWal(name)), name).to.equal(true)
        if (stored.sha1) expect(createHash('sha1').update(plain).digest('hex')).to.equal(stored.sha1)
      }
      expect(await backup.walStored('0000000100000FFF000000FF')).to.equal(undefined)
    })

    it('reports immediately that a segment is not in the archive', async () => {
      expect(await backup.walSize('0000000100000FFF000000FF')).to.equal(undefined)
      expect(await backup.walSize('../../etc/passwd')).to.equal(undefined)
      const error = await backup.walRead('0000000100000FFF000000FF', 0, 1).catch((caught) => caught)
      expect(error).to.include({ code: 'wal_missing' })
    })

    it('leaves the repository byte-identical', async () => {
      expect(directoryDigest(subject.repository)).to.equal(before_)
    })

    const versionFile = () => readFileSync(join(subject.data, 'PG_VERSION'), 'utf8')

    const isIgnored = (path: string) =>
      subject.ignored.some((name) => (name.endsWith('/') ? path.startsWith(name) : path === name))

    function onDisk(path: string): string {
      return path.startsWith('data/')
        ? join(subject.data, path.slice('data/'.length))
        : join(subject.tablespaces, path.slice('tblspc/'.length))
    }
  })
}

async function allOf(backup: OpenBackup): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = []
  for await (const batch of backup.tree()) entries.push(...batch)
  return entries
}

async function readAll(backup: OpenBackup, file: number, size: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  for (let offset = 0; offset < size; offset += 1024 * 1024) {
    pieces.push(await backup.read(file, offset, 1024 * 1024))
  }
  return Buffer.concat(pieces)
}
