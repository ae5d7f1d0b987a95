/** The conformance suite with repositories of every format and kind, made by the tools of this machine. */
import { execFile } from 'node:child_process'
import { chown, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Barman, type BarmanCompression, type BarmanServer, makeBarman } from '../support/barman.ts'
import type { Compression } from '../support/pgbackrest.ts'
import { postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { conforms, type Subject } from './conformance.ts'
import { extractFixture, type Fixture, temporaryDirectory } from './fixture.ts'
import { walk } from './reference.ts'
import { restored } from './restored.ts'

const run = promisify(execFile)

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
      const pgPath = production.dataDirectory
      return restored(scratch, { repository: path, stanza, label, configFile, wal, pgPath })
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
      const wal = [await production.switchWal()]
      const pgPath = production.dataDirectory
      return await restored(scratch, { repository: path, stanza, label, configFile, wal, pgPath })
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
      const { repository } = fixture
      return restored(scratch, { repository, stanza: 'demo', label, configFile, wal, pgPath: data })
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
    }
  }
})

/** Extracts a tar archive by tar itself. */
async function unpack(archive: string, into: string): Promise<void> {
  const program = { gz: 'gzip', lz4: 'lz4', zst: 'zstd' }[archive.replace(/^.*\./, '')] ?? 'cat'
  const decode = program === 'cat' ? 'cat' : `${program} -dc`
  await run('sh', ['-c', `${decode} "$1" | tar -x -p -C "$2"`, 'sh', archive, into])
}
