import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { scratchDirectory } from '../support/scratch.ts'
import { run } from './run.ts'

describe('howdah broker setup', () => {
  let directory: string
  let passwords: string

  beforeEach(async () => {
    directory = await scratchDirectory('howdah-broker-setup-')
    passwords = path.join(directory, 'passwords')
  })

  afterEach(() => rm(directory, { recursive: true }))

  const setUp = (...more: string[]) => run(['broker', 'setup', '--passwords', passwords, ...more])

  /** Runs it to its end, which is success. */
  async function definitions(...more: string[]) {
    const { status, stdout, stderr } = setUp(...more)
    expect(await status, stderr()).to.equal(0)
    return JSON.parse(stdout()) as {
      vhosts: { name: string }[]
      users: { name: string; password_hash: string; tags: string }[]
      queues: { name: string }[]
      topic_permissions: { user: string; exchange: string; write: string; read: string }[]
    }
  }

  it('prints the users, with the routing keys that each may use, and the queues', async () => {
    const found = await definitions('--agent', 'target:db-7', '--client', 'ops', '--operator', 'alice')
    expect(found.vhosts).to.deep.equal([{ name: 'howdah' }])
    expect(found.users.map(({ name, tags }) => `${name}${tags}`)).to.deep.equal([
      'howdah-coordinator',
      'howdah-target-db-7',
      'howdah-client-ops',
      'howdah-operator-alice',
    ])
    expect(found.queues.map(({ name }) => name))
      .to.include('howdah.target.db-7')
      .and.include('howdah.dead-letters')
    const keys = found.topic_permissions.map(({ user, exchange, write, read }) => [
      user,
      exchange,
      write,
      read,
    ])
    expect(keys).to.deep.equal([
      ['howdah-target-db-7', 'howdah.events', '^agent\\.target\\.db-7\\.', '^$'],
      ['howdah-client-ops', 'howdah.events', '^$', '^session\\.'],
      ['howdah-client-ops', 'howdah.commands', '^(?!(agent\\.certify|agent\\.invite|agent\\.revoke)$)', '^$'],
      ['howdah-operator-alice', 'howdah.events', '^agent\\.', '^session\\.'],
      ['howdah-operator-alice', 'howdah.commands', '.*', '^$'],
    ])
  })

  it('makes each password once, in a file that only its owner reads, and prints none', async () => {
    const first = await definitions('--agent', 'mount:backup-1')
    const file = path.join(passwords, 'howdah-mount-backup-1.password')
    const password = (await readFile(file, 'utf8')).trim()
    expect(password).to.match(/^[\w-]{32}$/)
    expect((await stat(file)).mode & 0o777).to.equal(0o600)
    expect((await stat(passwords)).mode & 0o777).to.equal(0o700)
    const second = await definitions('--agent', 'mount:backup-1')
    expect((await readFile(file, 'utf8')).trim()).to.equal(password)
    expect(JSON.stringify([first, second])).not.to.include(password)
  })

  it('makes users without passwords, who log in by certificate, and the one of the management API', async () => {
    const file = path.join(directory, 'management.password')
    const { status, stdout } = run([
      'broker',
      'setup',
      '--agent',
      'target:db-7',
      '--management-password',
      file,
    ])
    expect(await status).to.equal(0)
    const { users } = JSON.parse(stdout()) as {
      users: { name: string; password_hash: string; tags: string }[]
    }
    const [coordinator, agent, management] = users
    expect([coordinator?.password_hash, agent?.password_hash]).to.deep.equal(['', ''])
    expect(management).to.include({ name: 'howdah-management', tags: 'administrator' })
    expect((await stat(file)).mode & 0o777).to.equal(0o600)
    expect(stdout()).not.to.include((await readFile(file, 'utf8')).trim())
  })

  it('takes a password that somebody wrote, hides it from others, and refuses one that is too short', async () => {
    await mkdir(passwords)
    const file = path.join(passwords, 'howdah-client-ops.password')
    await writeFile(file, 'correct horse battery\n', { mode: 0o644 })
    await definitions('--client', 'ops')
    expect((await stat(file)).mode & 0o777).to.equal(0o600)
    await writeFile(file, '\n')
    const { status, stderr } = setUp('--client', 'ops')
    expect(await status).to.equal(1)
    expect(stderr()).to.include(file)
  })

  it('says that the management API cannot be reached, without its password', async () => {
    const { status, stderr } = setUp('--apply', '--management', 'http://admin:sesame@127.0.0.1:1')
    expect(await status).to.equal(1)
    expect(stderr()).to.include('http://127.0.0.1:1').and.not.include('sesame')
  })

  for (const [name, args, part] of [
    ['another action', ['broker', 'reset', '--passwords', 'p'], 'there is "broker setup"'],
    ['an agent without its kind', ['broker', 'setup', '--passwords', 'p', '--agent', 'db-7'], 'target:db-7'],
    [
      'both ways at once',
      ['broker', 'setup', '--passwords', 'p', '--print', '--apply'],
      'exclude each other',
    ],
    ['no management API', ['broker', 'setup', '--passwords', 'p', '--apply'], '--management URL'],
    [
      'a management API without a user',
      ['broker', 'setup', '--passwords', 'p', '--apply', '--management', 'http://h:1'],
      'http://user:password@host:15672',
    ],
  ] as const) {
    it(`with ${name} is wrong usage, and makes no file`, async () => {
      const { status, stderr } = run([...args])
      expect(await status).to.equal(2)
      expect(stderr()).to.include(part)
      expect(existsSync('p')).to.equal(false)
    })
  }
})
