/** pgBackRest's own configuration file in the place of path and passphrase. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { readPgbackrestConfiguration } from '../../agents/mount/formats/pgbackrest/configuration.ts'
import { repositories } from '../../config/formats.ts'
import { HowdahError } from '../../messages/errors.ts'
import { makeBlockRepository, PASSPHRASE } from './block-repository.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { dice } from './reference.ts'

describe('a configuration file of pgBackRest', () => {
  let scratch: string
  let file: string

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    file = join(scratch, 'pgbackrest.conf')
  })
  afterEach(async () => {
    await rm(scratch, { recursive: true, force: true })
  })

  async function read(text: string, repo = 1) {
    await writeFile(file, text)
    return readPgbackrestConfiguration(file, repo)
  }
  async function refusal(text: string, repo = 1): Promise<string> {
    const error = await read(text, repo).catch((caught: unknown) => caught)
    expect(error).to.be.instanceOf(HowdahError).and.include({ code: 'configuration' })
    return (error as HowdahError).message
  }

  it('has path and passphrase of each of several repositories', async () => {
    const text = `# ours
[global]
repo1-path=/srv/one
repo2-path = /srv/two
repo2-cipher-type=aes-256-cbc
repo2-cipher-pass=  zWa/6Xtp=hush
repo3-retention-full=2
log-level-file=off

[global:archive-push]
compress-level=3

[shop]
pg1-path=/var/lib/postgresql/15/main
`
    expect(await read(text)).to.deep.equal({ root: '/srv/one', passphrase: undefined })
    expect(await read(text, 2)).to.deep.equal({ root: '/srv/two', passphrase: 'zWa/6Xtp=hush' })
    expect(await read(text, 3)).to.deep.equal({ root: '/var/lib/pgbackrest', passphrase: undefined })
    expect(await refusal(text, 4))
      .to.include('no repository 4')
      .and.include('1, 2, 3')
    expect(await read('[shop]\nrepo-path=/srv/old\n')).to.include({ root: '/srv/old' })
  })

  it('is refused, with the reason, where the mount agent cannot read the repository', async () => {
    expect(await refusal('[global]\nrepo1-type=s3\n'))
      .to.include('s3')
      .and.include('posix')
    expect(await refusal('[global]\nrepo1-host=vault\n')).to.include('vault')
    expect(await refusal('[global]\nrepo1-cipher-type=aes-256-cbc\n')).to.include('repo1-cipher-pass')
    expect(await refusal('[a]\nrepo1-path=/x\n[b]\nrepo1-path=/y\n')).to.include('repo1-path')
    await rm(file)
    const error = await readPgbackrestConfiguration(file, 1).catch((caught: unknown) => caught)
    expect((error as HowdahError).message)
      .to.include(file)
      .and.include('ENOENT')
  })

  it('opens an encrypted repository, and names itself when its passphrase is wrong', async () => {
    const root = join(scratch, 'repo')
    const { labels } = await makeBlockRepository(root, { compression: 'none', encrypted: true }, dice(1))
    await mkdir(join(scratch, 'spool'))
    const { repository, spool } = openForTest(
      { format: 'pgbackrest', configFile: file, repo: 2 },
      join(scratch, 'spool'),
    )
    const write = (passphrase: string) =>
      writeFile(
        file,
        `[global]\nrepo2-path=${root}\nrepo2-cipher-type=aes-256-cbc\nrepo2-cipher-pass=${passphrase}\n`,
      )
    try {
      const missing = await repository.instances().catch((caught: unknown) => caught)
      expect(missing).to.include({ code: 'configuration' })
      await write(PASSPHRASE)
      expect(await repository.instances()).to.deep.equal(['demo'])
      const backups = await (await repository.instance('demo')).backups()
      expect(backups.map(({ label, unusable }) => unusable ?? label)).to.deep.equal(labels)
      await write('another')
      const other = openForTest({ format: 'pgbackrest', configFile: file, repo: 2 }, join(scratch, 'other'))
      const instance = await other.repository.instance('demo')
      const wrong = await instance.backups().catch((caught: unknown) => caught)
      await other.spool.close()
      expect(wrong).to.include({ code: 'configuration' })
      expect((wrong as HowdahError).message)
        .to.include(file)
        .and.include('repo2-cipher-pass')
    } finally {
      await spool.close()
    }
  })

  it('excludes path and passphrase in the configuration of the mount agent', () => {
    const entry = { name: 'r', format: 'pgbackrest', configFile: '/etc/pgbackrest/pgbackrest.conf' }
    repositories.validate([entry])
    repositories.validate([{ ...entry, repo: 2, linkTargets: ['/srv/d2'] }])
    repositories.validate([{ ...entry, format: 'barman' }])
    const wrong = [
      { ...entry, path: '/srv' },
      { ...entry, passphraseFile: '/p' },
      { ...entry, format: 'basebackup' },
      { ...entry, format: 'barman', repo: 1 },
      { name: 'r', format: 'barman', path: '/srv', linkTargets: '/d2' },
      { name: 'r', format: 'barman', path: '/srv', linkTargets: ['d2'] },
      { ...entry, repo: 0 },
      { ...entry, configFile: 'relative' },
      { name: 'r', format: 'pgbackrest', path: '/srv', repo: 2 },
      { name: 'r', format: 'pgbackrest' },
      { name: 'r', format: 'pgbackrest', path: '/srv', verifyChecksums: 'no' },
    ]
    for (const one of wrong) {
      expect(() => repositories.validate([one]), JSON.stringify(one)).to.throw(/\[0\]/)
    }
  })
})
