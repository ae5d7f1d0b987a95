/** Repositories with parts on other disks, by links and by the tool's own configuration; nothing else is followed. */
import { cp, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import type { Repository, RepositoryOptions } from '../../agents/mount/repository.ts'
import { serveRepositories } from '../../agents/mount/served-repositories.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import type { InstanceInventory } from '../../messages/values.ts'
import { type BlockRepository, makeBlockRepository } from './block-repository.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { dice } from './reference.ts'

const SEGMENT = '000000010000000000000003'

describe('a repository with parts on other disks', function () {
  this.timeout(20_000)
  let scratch: string
  let root: string
  let elsewhere: string
  let spools: Spool[]
  let made: BlockRepository

  before(async () => {
    scratch = await temporaryDirectory()
    made = await makeBlockRepository(
      join(scratch, 'made'),
      { compression: 'none', encrypted: false },
      dice(3),
    )
  })
  after(() => rm(scratch, { recursive: true, force: true }))

  beforeEach(async () => {
    const place = await mkdtemp(join(scratch, 'case-'))
    root = join(place, 'repository')
    elsewhere = join(place, 'elsewhere')
    await mkdir(root)
    await mkdir(elsewhere)
    spools = []
  })
  afterEach(async () => {
    for (const spool of spools) await spool.close()
  })

  function open(options: Partial<RepositoryOptions> & Pick<RepositoryOptions, 'format'>): Repository {
    const directory = join(elsewhere, '..', `spool-${spools.length}`)
    const { repository, spool } = openForTest({ path: root, ...options }, directory)
    spools.push(spool)
    return repository
  }
  /** Moves a part away, and leaves a link to it. */
  async function move(part: string, to = join(elsewhere, part.replaceAll('/', '-'))): Promise<string> {
    await rename(join(root, part), to)
    await symlink(to, join(root, part))
    return to
  }
  const failure = async (work: Promise<unknown>): Promise<{ code: string; message: string }> =>
    work.then(
      () => expect.fail('nothing failed'),
      (error) => error,
    )
  async function listed(repository: Repository, name: string): Promise<InstanceInventory> {
    const options = { name: 'main', format: 'barman', path: root } as const
    const [inventory] = await serveRepositories('here', [{ options, repository }]).inventory({})
    const found = inventory?.instances.find(({ instance }) => instance === name)
    return found ?? expect.fail(`${name} is not listed`)
  }

  describe('of pgBackRest', () => {
    beforeEach(() => cp(join(scratch, 'made'), root, { recursive: true }))

    for (const part of ['archive', 'backup', 'archive/demo', 'backup/demo']) {
      it(`is read with ${part} on another disk where its configuration allows it; otherwise the link is named`, async () => {
        const place = await move(part)
        const refused = open({ format: 'pgbackrest' })
        const error = await failure(refused.instance('demo').then((demo) => demo.open(made.labels[2] ?? '')))
        expect(error.code).to.equal('configuration')
        expect(error.message)
          .to.include(`${join(root, part)} is a symbolic link to ${place}`)
          .and.include('linkTargets')
        const inventory = await listed(refused, 'demo')
        expect(JSON.stringify([inventory.error, inventory.warnings])).to.include(place)

        const demo = await open({ format: 'pgbackrest', linkTargets: [elsewhere] }).instance('demo')
        const backup = await demo.open(made.labels[2] ?? '')
        const entry = backup.entry('data/base/1/1000')
        const read = await backup.read(entry?.file ?? -1, 0, entry?.size ?? 0)
        expect(read.equals(made.contents[2]?.get('data/base/1/1000') ?? Buffer.alloc(0))).to.equal(true)
      })
    }

    it('is not read from a directory beside the allowed ones', async () => {
      const place = await move('backup/demo')
      const demo = await open({
        format: 'pgbackrest',
        linkTargets: [`${place}2`, join(place, 'x')],
      }).instance('demo')
      expect((await failure(demo.backups())).code).to.equal('configuration')
    })
  })

  describe('of Barman', () => {
    const ID = '20260102T030405'
    const INFO = `begin_wal=${SEGMENT}\nbegin_xlog=0/3000028\nend_wal=${SEGMENT}\nend_xlog=0/3000100\nmode=rsync\nstatus=DONE\ntimeline=1\nversion=150018\nend_time=2026-01-02 03:05:05+00:00\n`
    let wal: Buffer

    /** A server with its directories in these places. */
    async function server(base: string, wals: string): Promise<void> {
      const data = join(base, ID, 'data')
      await mkdir(join(data, 'global'), { recursive: true })
      await mkdir(join(wals, SEGMENT.slice(0, 16)), { recursive: true })
      wal = Buffer.alloc(1024 * 1024, 'wal')
      wal.writeUInt16LE(0xd110, 0)
      await writeFile(join(wals, SEGMENT.slice(0, 16), SEGMENT), wal)
      await writeFile(join(data, 'PG_VERSION'), '15\n')
      await writeFile(join(base, ID, 'backup.info'), INFO)
    }
    async function expectReadable(repository: Repository, name = 'shop'): Promise<void> {
      const backup = await (await repository.instance(name)).open(ID)
      const entry = backup.entry('data/PG_VERSION')
      expect((await backup.read(entry?.file ?? -1, 0, 10)).toString()).to.equal('15\n')
      expect(await backup.walSize(SEGMENT)).to.equal(wal.length)
    }

    for (const part of ['shop', 'shop/base', 'shop/wals', `shop/base/${ID}`, `shop/base/${ID}/data`]) {
      it(`is read with ${part} on another disk where its configuration allows it; otherwise the link is named`, async () => {
        await server(join(root, 'shop/base'), join(root, 'shop/wals'))
        const place = await move(part)
        const refused = open({ format: 'barman' })
        const read = async () => {
          const shop = await refused.instance('shop')
          await (await shop.open(ID)).walSize(SEGMENT)
        }
        const error = await failure(read())
        expect(error.code).to.be.oneOf(['configuration', 'backup_unsupported'])
        expect(error.message)
          .to.include(`${join(root, part)} is a symbolic link to ${place}`)
          .and.include('linkTargets')
        await expectReadable(open({ format: 'barman', linkTargets: [elsewhere] }))
      })
    }

    it('is read where its own configuration says that its directories are', async () => {
      const below = join(elsewhere, 'barman.d')
      await mkdir(below)
      await server(join(elsewhere, 'bases/shop'), join(elsewhere, 'deep/wals/shop'))
      await server(join(root, 'plain/base'), join(root, 'plain/wals'))
      const configFile = join(elsewhere, 'barman.conf')
      await writeFile(
        configFile,
        `; of the test\n[barman]\nbarman_home = "${root}"\nconfiguration_files_directory=${below}\n[model:one]\nmodel = true\n`,
      )
      await writeFile(
        join(below, 'shop.conf'),
        `[shop]\ndescription = a = b\nbackup_directory: ${elsewhere}/deep\nbasebackups_directory = ${elsewhere}/bases/%(name)s\nwals_directory = %(backup_directory)s/wals/%(name)s\n`,
      )
      await writeFile(join(below, 'plain.conf'), '[plain]\n')
      await writeFile(join(below, 'ignored.txt'), '[ignored]\n')
      const repository = open({ format: 'barman', configFile })
      expect(await repository.instances()).to.deep.equal(['plain', 'shop'])
      await expectReadable(repository, 'shop')
      await expectReadable(repository, 'plain')
    })

    it('says what is wrong with that configuration', async () => {
      const configFile = join(elsewhere, 'barman.conf')
      const message = async () => (await failure(open({ format: 'barman', configFile }).instances())).message
      expect(await message())
        .to.include(configFile)
        .and.include('ENOENT')
      await writeFile(configFile, '[barman]\nbarman_home=/srv\n')
      expect(await message()).to.include('configures no server')
      await writeFile(configFile, '[shop]\n')
      expect(await message())
        .to.include('barman_home')
        .and.include('shop')
      await writeFile(configFile, '[shop]\nbackup_directory=shop\n')
      expect(await message()).to.include('no absolute path')
    })
  })

  describe('of pg_basebackup', () => {
    async function backup(directory: string): Promise<void> {
      await mkdir(join(directory, 'global'), { recursive: true })
      await mkdir(join(directory, 'pg_wal'), { recursive: true })
      await writeFile(join(directory, 'PG_VERSION'), '15\n')
      await writeFile(
        join(directory, 'backup_label'),
        `START WAL LOCATION: 0/3000028 (file ${SEGMENT})\nSTART TIME: 2026-01-02 03:04:05 UTC\n`,
      )
      await writeFile(join(directory, 'pg_wal', SEGMENT), Buffer.alloc(1024 * 1024, 'wal'))
    }

    for (const part of ['shop', 'shop/full', 'shop/full/pg_wal']) {
      it(`is read with ${part} on another disk where its configuration allows it; otherwise the link is named`, async () => {
        await backup(join(root, 'shop/full'))
        const place = await move(part)
        const read = async (repository: Repository) =>
          (await (await repository.instance('shop')).open('full')).walSize(SEGMENT)
        const error = await failure(read(open({ format: 'basebackup' })))
        expect(error.code).to.be.oneOf(['configuration', 'backup_unsupported'])
        expect(error.message)
          .to.include(`${join(root, part)} is a symbolic link to ${place}`)
          .and.include('linkTargets')
        expect(await read(open({ format: 'basebackup', linkTargets: [dirname(place)] }))).to.equal(
          1024 * 1024,
        )
      })
    }
  })
})
