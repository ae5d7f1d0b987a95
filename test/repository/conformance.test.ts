/**
 * One suite for all repository formats: what a reader shows must be what the backup tool itself restores, byte for
 * byte, and the repository must be the same afterwards.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import type { OpenBackup, RepositoryFormat } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { type Barman, type BarmanCompression, type BarmanServer, makeBarman } from '../support/barman.ts'
import { directoryDigest } from '../support/digest.ts'
import type { Compression } from '../support/pgbackrest.ts'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { extractFixture, type Fixture, openForTest, temporaryDirectory } from './fixture.ts'
import { dice, walk } from './reference.ts'

const run = promisify(execFile)

/** A backup on one side, and on the other the directories that the backup tool makes of it. */
interface Subject {
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
  /** Links below pg_tblspc that the tool creates. */
  readonly linkTargets: 'recorded' | 'remade'
}

describe('repository readers', function () {
  this.timeout(180_000)
  let scratch: string
  let production: Production
  let fixture: Fixture | undefined
  let barman: Barman

  before(async () => {
    scratch = await temporaryDirectory()
    production = await makeProduction({ compress: 'gz', bundle: false })
    fixture = await extractFixture('plain-gz-incr')
  })
  after(async () => {
    await production?.remove()
    if (fixture !== undefined) await rm(fixture.directory, { recursive: true, force: true })
    await rm(scratch, { recursive: true, force: true })
  })

  // Where the bytes are, how they are compressed and whether they are encrypted are independent of each other: each once.
  // The fixture below is of gz without bundles.
  const kinds: readonly (readonly [compress: Compression, bundle: boolean, encrypted?: boolean])[] = [
    ['none', false],
    ['none', true],
    ['zst', true],
    ['lz4', true],
    ['bz2', false],
    ['none', false, true],
    ['gz', true, true],
    ['zst', false, true],
  ]
  for (const [compress, bundle, encrypted = false] of kinds) {
    const title = `pgBackRest ${compress}${bundle ? ' with bundles' : ''}${encrypted ? ', encrypted' : ''}`
    conforms(title, async () => {
      const name = `${compress}-${bundle}-${encrypted}`
      const repository = await production.addRepository(name, {
        ...{ compress, bundle },
        ...(encrypted && { passphrase: 'kept/in=its configuration' }),
      })
      const label = await repository.backup('full')
      const { configFile, path, stanza } = repository
      await production.writeNotes(10, name)
      const wal = [await production.switchWal()]
      return restored(path, stanza, label, configFile, wal, production.dataDirectory)
    })
  }

  conforms('pgBackRest with links to a directory and to a file', async () => {
    const elsewhere = join(scratch, 'elsewhere')
    const account = await postgresAccount()
    for (const name of ['directory', 'file']) {
      await mkdir(join(elsewhere, name), { recursive: true })
      await chown(join(elsewhere, name), account.uid, account.gid)
    }
    const links = [
      [join(elsewhere, 'directory'), join(production.dataDirectory, 'linked')],
      [join(elsewhere, 'file', 'linked.conf'), join(production.dataDirectory, 'linked.conf')],
    ] as const
    await runAs(account, 'sh', [
      '-c',
      'echo inside > "$1/inside"; echo there > "$2/linked.conf"; ln -s "$1" "$3"; ln -s "$2/linked.conf" "$4"',
      ...['sh', join(elsewhere, 'directory'), join(elsewhere, 'file'), links[0][1], links[1][1]],
    ])
    try {
      const repository = await production.addRepository('links', { compress: 'none', bundle: false })
      const label = await repository.backup('full')
      const { configFile, path, stanza } = repository
      return await restored(
        path,
        stanza,
        label,
        configFile,
        [await production.switchWal()],
        production.dataDirectory,
      )
    } finally {
      for (const [, link] of links) await rm(link)
    }
  })

  for (const [index, kind] of ['full', 'differential', 'incremental'].entries()) {
    conforms(`pgBackRest fixture plain-gz-incr, ${kind}`, async () => {
      const label = fixture?.labels[index]
      if (fixture === undefined || label === undefined) return undefined
      const data = join(scratch, label, 'data')
      const configFile = join(fixture.directory, `${label}.conf`)
      await writeFile(
        configFile,
        `[global]\nrepo1-path=${fixture.repository}\nlock-path=${join(scratch, label)}\nlog-level-file=off\n[demo]\npg1-path=${data}\n`,
      )
      const wal = ['3', '4', '9'].map((digit) => `00000001000000000000000${digit}`)
      return restored(fixture.repository, 'demo', label, configFile, wal, data)
    })
  }

  conforms('pg_basebackup with a tablespace and WAL', async () => {
    const repository = join(scratch, 'basebackups')
    const data = join(repository, 'shop', 'monday')
    await production.basebackup(data)
    const oids = (await production.sql(`select oid from pg_tablespace where spcname = 'archive'`)).split('\n')
    const tablespaces = join(scratch, 'basebackup-tablespaces')
    await mkdir(tablespaces)
    for (const oid of oids) {
      await runAs({ ...(await postgresAccount()), uid: process.getuid?.() ?? 0 }, 'cp', [
        ...['-a', `${data}.tblspc`, join(tablespaces, oid)],
      ])
    }
    const found = walk(join(data, 'pg_wal'))
    const wal = [...found.keys()].filter((name) => /^[0-9A-F]{24}$/.test(name))
    return {
      format: 'basebackup',
      repository,
      instance: 'shop',
      label: 'monday',
      data,
      tablespaces,
      ignored: [],
      wal,
      getWal: (name) => readFile(join(data, 'pg_wal', name)),
      linkTargets: 'recorded',
    }
  })

  const archives: readonly (readonly [title: string, args: readonly string[]])[] = [
    ['tar', []],
    ['tar.gz', ['--compress=client-gzip:1']],
    ['tar.lz4 of the server', ['--compress=server-lz4']],
    ['tar.zst', ['--compress=client-zstd:1']],
    ['tar.zst of the server with its WAL inside', ['--compress=server-zstd:1', '-X', 'fetch']],
  ]
  for (const [index, [title, args]] of archives.entries()) {
    conforms(`pg_basebackup ${title}`, async () => {
      const repository = join(scratch, 'archived')
      const label = `number-${index}`
      const directory = join(repository, 'shop', label)
      await production.basebackup(directory, ['-Ft', ...args])
      const home = join(scratch, label)
      const [data, tablespaces] = [join(home, 'data'), join(home, 'tablespaces')]
      for (const name of await readdir(directory)) {
        const [, stem] = /^(\w+)\.tar/.exec(name) ?? []
        if (stem === undefined) continue
        const into = stem === 'base' ? data : stem === 'pg_wal' ? join(home, 'wal') : join(tablespaces, stem)
        await mkdir(into, { recursive: true, mode: 0o700 })
        await unpack(join(directory, name), into)
      }
      for (const oid of await readdir(tablespaces)) await symlink('/', join(data, 'pg_tblspc', oid))
      const walDirectory = args.includes('fetch') ? join(data, 'pg_wal') : join(home, 'wal')
      return {
        format: 'basebackup',
        repository,
        instance: 'shop',
        label,
        data,
        tablespaces,
        ignored: [],
        wal: (await readdir(walDirectory)).filter((name) => /^[0-9A-F]{24}$/.test(name)),
        getWal: (name) => readFile(join(walDirectory, name)),
        linkTargets: 'recorded',
      }
    })
  }

  conforms('Barman, copied by rsync', async () => {
    barman = await makeBarman(production)
    return recovered('files', await barman.backup('files'))
  })
  conforms('Barman, copied by rsync with hard links to the backup before', async () => {
    await production.writeNotes(10, 'linked')
    return recovered('files', await barman.backup('files'))
  })
  const streamed: readonly BarmanCompression[] = ['none', 'gzip', 'lz4', 'zstd']
  for (const compression of streamed) {
    conforms(`Barman, taken by pg_basebackup, ${compression}`, async () =>
      recovered('streamed', await barman.backup('streamed', compression), compression),
    )
  }

  /** Restores a backup with Barman itself. */
  async function recovered(
    server: BarmanServer,
    label: string,
    compression: BarmanCompression = 'none',
  ): Promise<Subject> {
    const home = join(scratch, `${server}-${label}`)
    const [data, tablespaces] = [join(home, 'data'), join(home, 'tablespaces')]
    const oid = (await production.sql(`select oid from pg_tablespace where spcname = 'archive'`)).trim()
    const isBarmans = compression === 'none' || compression === 'gzip'
    if (isBarmans) await barman.recover(server, label, data, join(tablespaces, oid))
    else {
      // Debian's Barman takes such backups, and cannot restore them.
      for (const [stem, into] of [
        ['base', data],
        [oid, join(tablespaces, oid)],
      ] as const) {
        await mkdir(into, { recursive: true, mode: 0o700 })
        const extension = compression === 'lz4' ? 'lz4' : 'zst'
        await unpack(join(barman.home, server, 'base', label, 'data', `${stem}.tar.${extension}`), into)
      }
      await symlink('/', join(data, 'pg_tblspc', oid))
    }
    const names = await readdir(join(barman.home, server, 'wals', '0000000100000000'))
    const wal = names.filter((name) => /^[0-9A-F]{24}$/.test(name)).slice(0, 2)
    // Now: Barman writes to its home when it is asked.
    const contents = new Map<string, Buffer>()
    for (const name of wal) contents.set(name, await barman.getWal(server, name))
    return {
      format: 'barman',
      repository: barman.home,
      instance: server,
      label,
      data,
      tablespaces,
      ignored: [
        ...['.barman-recover.info', 'backup_manifest', `backup_manifest.${label}`, 'barman_wal/'],
        ...['recovery.signal', 'tablespace_map', 'postgresql.auto.conf.origin', 'pg_wal/'],
      ].map((name) => `data/${name}`),
      wal,
      getWal: async (name) => contents.get(name) ?? Buffer.alloc(0),
      linkTargets: 'remade',
    }
  }

  /** Restores a backup with pgBackRest itself. `pgPath` is a data directory of the cluster, for archive-get. */
  async function restored(
    repository: string,
    stanza: string,
    label: string,
    configFile: string,
    wal: readonly string[],
    pgPath: string,
  ): Promise<Subject> {
    const account = await postgresAccount()
    const home = join(scratch, label)
    const data = join(home, 'data')
    const tablespaces = join(home, 'tablespaces')
    for (const made of [home, data, tablespaces]) {
      await mkdir(made, { recursive: true })
      await chown(made, account.uid, account.gid)
    }
    const common = [`--config=${configFile}`, `--stanza=${stanza}`, '--log-level-console=error']
    await runAs(account, 'pgbackrest', [
      ...common,
      ...[`--set=${label}`, `--pg1-path=${data}`, `--tablespace-map-all=${tablespaces}`, '--type=none'],
      'restore',
    ])
    const oids = await runAs(account, 'ls', [join(data, 'pg_tblspc')])
    // Restored by name; the suite knows tablespaces by OID.
    for (const oid of oids.split('\n').filter((line) => line !== '')) {
      const target = await runAs(account, 'readlink', [join(data, 'pg_tblspc', oid)])
      if (target.trim() !== join(tablespaces, oid)) {
        await runAs(account, 'mv', [target.trim(), join(tablespaces, oid)])
      }
    }
    return {
      format: 'pgbackrest',
      repository,
      configFile,
      instance: stanza,
      label,
      data,
      tablespaces,
      ignored: ['data/tablespace_map', 'data/postgresql.auto.conf', 'data/recovery.signal'],
      wal,
      async getWal(name) {
        const destination = join(home, name)
        await runAs(account, 'pgbackrest', [
          ...common,
          `--pg1-path=${pgPath}`,
          ...['archive-get', name, destination],
        ])
        return readFile(destination)
      },
      linkTargets: 'remade',
    }
  }

  function conforms(title: string, prepare: () => Promise<Subject | undefined>): void {
    describe(title, () => {
      let subject: Subject
      let before_: string
      let spool: Spool
      let backup: OpenBackup
      let entries: TreeEntry[]

      before(async function () {
        const prepared = await prepare()
        if (prepared === undefined) return this.skip()
        subject = prepared
        before_ = directoryDigest(subject.repository)
        const opened = openForTest(
          subject.configFile === undefined
            ? { format: subject.format, path: subject.repository }
            : { format: subject.format, configFile: subject.configFile },
          join(scratch, `spool-${title.replaceAll(/\W/g, '-')}`),
        )
        spool = opened.spool
        backup = await (await opened.repository.instance(subject.instance)).open(subject.label)
        entries = await allOf(backup)
      })
      after(async () => {
        await backup?.close()
        await spool?.close()
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
          if (kind === 'file') expect(Math.floor(mtime), `mtime of ${path}`).to.equal(found?.mtime)
        }
      })

      it('keeps tablespace links with the target that the backup recorded', async () => {
        const links = entries.filter(({ kind }) => kind === 'symlink')
        expect(links.map(({ path }) => path)).to.deep.equal(
          backup.tablespaces.map((oid) => `data/pg_tblspc/${oid}`),
        )
        for (const { linkTarget } of links) expect(linkTarget).to.match(/^\//)
      })

      it('reports the totals and the summary that the tool reports', async () => {
        const files = entries.filter(({ kind }) => kind === 'file')
        expect(backup.fileCount).to.equal(files.length)
        expect(backup.totalBytes).to.equal(files.reduce((sum, { size }) => sum + size, 0))
        expect(backup.summary).to.include({ label: subject.label, postgresVersion: '15', timeline: 1 })
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
          expect(got.equals(readFileSync(onDisk(path))), path).to.equal(true)
        }
      })

      it('ends a read at the end of the file', async () => {
        const entry = entries.find(({ path }) => path === 'data/PG_VERSION')
        const past = await backup.read(entry?.file ?? -1, 100, 10)
        expect(past.length).to.equal(0)
        expect((await backup.read(entry?.file ?? -1, 1, 100)).toString()).to.equal('5\n')
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

      const isIgnored = (path: string) =>
        subject.ignored.some((name) => (name.endsWith('/') ? path.startsWith(name) : path === name))

      function onDisk(path: string): string {
        return path.startsWith('data/')
          ? join(subject.data, path.slice('data/'.length))
          : join(subject.tablespaces, path.slice('tblspc/'.length))
      }
    })
  }
})

/** Extracts a tar archive by tar itself. */
async function unpack(archive: string, into: string): Promise<void> {
  const program = { gz: 'gzip', lz4: 'lz4', zst: 'zstd' }[archive.replace(/^.*\./, '')] ?? 'cat'
  const decode = program === 'cat' ? 'cat' : `${program} -dc`
  await run('sh', ['-c', `${decode} "$1" | tar -x -p -C "$2"`, 'sh', archive, into])
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
