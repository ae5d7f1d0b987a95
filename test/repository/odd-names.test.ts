/** Files in backups whose names are not UTF-8: their bytes survive in the tree, on the data plane and on the way back. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { systemPath } from '../../agents/dataplane/protocol/file-names.ts'
import { decodeTreeBatch, encodeTreeBatch } from '../../agents/dataplane/protocol/tree-codec.ts'
import { parseBackupManifest } from '../../agents/mount/formats/basebackup/backup-manifest.ts'
import { parseManifest } from '../../agents/mount/formats/pgbackrest/manifest.ts'
import type { OpenBackup } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'

const run = promisify(execFile)
/** `Köln` as Latin-1 has it, and a byte that no encoding has. */
const ODD = Buffer.from([0x4b, 0xf6, 0x6c, 0x6e, 0xff])
const LABEL =
  'START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nSTART TIME: 2026-01-02 03:04:05 UTC\n'

describe('names of files that are not UTF-8', () => {
  let scratch: string
  let root: string
  let spool: Spool

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    root = join(scratch, 'repository')
    const data = join(root, 'shop/plain')
    const odd = Buffer.concat([Buffer.from(`${data}/`), ODD])
    await mkdir(join(data, 'global'), { recursive: true })
    await mkdir(odd)
    await writeFile(Buffer.concat([odd, Buffer.from('/'), ODD]), 'inside')
    await writeFile(join(data, 'größe'), 'UTF-8')
    await writeFile(join(data, 'PG_VERSION'), '15\n')
    await writeFile(join(data, 'backup_label'), LABEL)
    await mkdir(join(root, 'shop/archived'))
    await run('tar', ['-cf', join(root, 'shop/archived/base.tar'), '-C', data, '.'])
  })
  afterEach(async () => {
    await spool?.close()
    await rm(scratch, { recursive: true, force: true })
  })

  async function entriesOf(backup: OpenBackup): Promise<TreeEntry[]> {
    const entries: TreeEntry[] = []
    for await (const batch of backup.tree()) entries.push(...batch)
    return entries
  }

  for (const label of ['plain', 'archived']) {
    it(`are what they were in a copy that is ${label}, and their files are read`, async () => {
      const opened = openForTest({ format: 'basebackup', path: root }, join(scratch, 'spool'))
      spool = opened.spool
      const backup = await (await opened.repository.instance('shop')).open(label)
      const sent = decodeTreeBatch(encodeTreeBatch(await entriesOf(backup), 0).payload)
      const found = sent.find(({ size }) => size === 'inside'.length)
      const expected = Buffer.concat([Buffer.from('data/'), ODD, Buffer.from('/'), ODD])
      expect(systemPath(found?.path ?? '')).to.deep.equal(expected)
      expect((await backup.read(found?.file ?? -1, 0, 100)).toString()).to.equal('inside')
      expect(sent.map(({ path }) => path)).to.include('data/größe')
    })
  }

  it('are what they were in the manifest of a pg_basebackup', async () => {
    const lines = `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n{ "Encoded-Path": "${ODD.toString('hex')}", "Size": 6 }\n],\n`
    const checksum = createHash('sha256').update(lines).digest('hex')
    const manifest = await parseBackupManifest(
      Buffer.from(`${lines}"Manifest-Checksum": "${checksum}"}\n`),
      'it',
    )
    expect([...manifest.files.keys()].map(systemPath)).to.deep.equal([ODD])
  })

  it('are what they were in a manifest of pgBackRest, whose checksum is of their bytes', async () => {
    const name = `pg_data/${ODD.toString('latin1')}"`
    const file = '{"size":6,"timestamp":1700000000}'
    const json = `{"backup":{"backup-label":"L"},"target:file":{${JSON.stringify(name)}:${file}},"target:path":{"pg_data":{}}}`
    const checksum = createHash('sha1').update(json, 'latin1').digest('hex')
    const text = `[backup]\nbackup-label="L"\n\n[target:file]\n${name}=${file}\n\n[target:path]\npg_data={}\n\n[backrest]\nbackrest-checksum="${checksum}"\n`
    const { tree } = await parseManifest(Buffer.from(text, 'latin1'), 'it')
    const [found] = [...tree.entries()].flat().filter(({ kind }) => kind === 'file')
    expect(systemPath(found?.path ?? '')).to.deep.equal(
      Buffer.concat([Buffer.from('data/'), ODD, Buffer.from('"')]),
    )
  })
})
