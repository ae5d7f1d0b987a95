import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import path from 'node:path'
import { expect } from 'chai'
import type { ErrorBody } from '../../messages/errors.ts'
import type { PreflightResult } from '../../messages/steps.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { POSTGRES_MAJOR } from '../support/installed-postgres.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { watchReports } from '../support/reports.ts'

describe('errors', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let label: string
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'none' })
    label = await production.backup('full')
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: { cache: { minimumFreeBytes: '1 MiB' } },
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
  })

  /** A publish that must fail: its error, by `--json`. */
  async function refused(changes: Record<string, string>): Promise<ErrorBody> {
    const flags = { repository: 'main', instance: production.stanza, target: 'db-7', ...changes }
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])
    const { status, stdout } = await fleet.howdah('publish', ...args, '--json')
    expect(status).to.equal(1)
    const { error, state } = JSON.parse(stdout) as Partial<SessionView>
    if (state !== undefined) expect(state).to.equal('failed')
    return error as ErrorBody
  }

  const cases: readonly (readonly [string, Record<string, string>, string, RegExp])[] = [
    ['an unknown repository', { repository: 'nope' }, 'unknown_repository', /"nope".*main/],
    ['an unknown instance', { instance: 'nope' }, 'unknown_instance', /nope/],
    ['an unknown backup', { backup: '20200101-000000F' }, 'unknown_backup', /20200101-000000F/],
    ['an unknown target', { target: 'nope' }, 'unknown_target', /"nope".*db-7/],
    ['a user that does not exist', { user: 'nobody-at-all' }, 'user_missing', /nobody-at-all/],
  ]
  for (const [what, changes, code, message] of cases) {
    it(`${what} is refused by its name`, async () => {
      const error = await refused(changes)
      expect(error).to.include({ code })
      expect(error.message).to.match(message)
    })
  }

  it('an unknown backup is refused with a list of the existing ones', async () => {
    expect((await refused({ backup: 'latest-but-one' })).message).to.include(label)
  })

  it('a port that is taken is refused by its number', async () => {
    const server = createServer()
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => {
        const address = server.address()
        resolve(typeof address === 'object' && address ? address.port : 0)
      })
    })
    try {
      const error = await refused({ port: String(port) })
      expect(error).to.include({ code: 'port_taken' })
      expect(error.message).to.include(String(port))
    } finally {
      server.close()
    }
  })

  it('several findings on the target are reported together', async () => {
    const error = await refused({ user: 'nobody-at-all', port: String(production.port) })
    expect(error.code).to.equal('preflight_failed')
    expect(error.details?.map(({ code }) => code)).to.have.members(['user_missing', 'port_taken'])
  })

  it('a mount root that another user has replaced by a symbolic link is refused', async () => {
    await rm(fleet.mountRoot, { recursive: true, force: true })
    const elsewhere = path.join(fleet.directory, 'elsewhere')
    await mkdir(elsewhere)
    await symlink(elsewhere, fleet.mountRoot)
    try {
      const error = await refused({})
      expect(error).to.include({ code: 'path_unsafe' })
      expect(error.message).to.include(fleet.mountRoot)
    } finally {
      await rm(fleet.mountRoot)
    }
  })

  it('a failed publish says what it undid, and leaves nothing behind', async () => {
    const manifest = { repository: 'main', instance: production.stanza, target: 'db-7' }
    const reply = await fleet.bus.request('instance.publish', { ...manifest, user: 'nobody-at-all' })
    if (!reply.accepted) throw new Error(reply.error.message)
    const session = await fleet.untilState(reply.session, 'failed')
    expect(session.undone).to.be.an('array')
    expect(session.steps.map(({ step, status }) => `${step} ${status}`)).to.include('preflight failed')
  })

  it('a damaged file that PostgreSQL cannot start without is named with the reason, and the logs of the session are kept', async () => {
    const name = 'global/pg_filenode.map'
    const file = path.join(production.path, 'backup', production.stanza, label, 'pg_data', name)
    const contents = await readFile(file)
    await writeFile(file, Buffer.alloc(contents.length, 'x'))
    try {
      const error = await refused({})
      expect(error.code, error.message).to.equal('postgres_failed')
      expect(error.message).to.include(`could not read file "${name}"`)
      expect(error.message).to.match(/data\/global\/pg_filenode\.map: .* do not match their checksum/)
    } finally {
      await writeFile(file, contents)
    }
    const log = await readFile(path.join(fleet.directory, 'target-agent.log'), 'utf8')
    const kept = log.split('\n').find((line) => line.includes('"log":{'))
    const said = JSON.parse(kept ?? '{}').log as { mount: string[]; postgres: string[] } | undefined
    expect(said?.mount.join()).to.match(/could not be read from the repository/)
    expect(said?.postgres.join()).to.include(`could not read file "${name}"`)
  })

  it('a port that another process takes after the check is replaced by a free one', async () => {
    const server = createServer()
    const watch = await watchReports<{ result: unknown }>(fleet.brokerUrl, 'step-done', ({ result }) => {
      const { port } = result as Partial<PreflightResult>
      if (port !== undefined && !server.listening) server.listen(port, '127.0.0.1')
    })
    try {
      const session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
      expect(server.address()).to.include({ family: 'IPv4' })
      expect(session.connection?.port).not.to.equal((server.address() as AddressInfo).port)
      expect(await fleet.sql(session, 'SHOW port')).to.equal(String(session.connection?.port))
      const failed = session.steps.find(({ status }) => status === 'failed')
      expect(failed?.error?.code).to.equal('port_taken')
      await fleet.howdahJson('unpublish', session.id, '--yes')
    } finally {
      await watch.close()
      server.close()
    }
  })

  it('a target that is offline is refused at once', async () => {
    await fleet.stop('target-agent')
    try {
      const error = await refused({})
      expect(error).to.include({ code: 'agent_offline' })
      expect(error.message).to.include('db-7')
    } finally {
      await fleet.start('target-agent')
    }
  })

  const settings: readonly (readonly [string, object, string, RegExp])[] = [
    [
      'without PostgreSQL of the major version',
      { postgres: { binaryDirectories: ['/opt/none/%v/bin'] } },
      'postgres_missing',
      new RegExp(`apt: postgresql-${POSTGRES_MAJOR}; dnf: postgresql${POSTGRES_MAJOR}-server`),
    ],
    ['with too little space', { cache: { minimumFreeBytes: '8000 TiB' } }, 'space_low', /free/],
  ]
  for (const [what, target, code, message] of settings) {
    it(`a target ${what} is refused before anything is mounted`, async () => {
      const restore = await fleet.reconfigure('target-agent', target)
      try {
        const args = ['--repository', 'main', '--instance', production.stanza, '--target', 'db-7']
        const { status, stdout } = await fleet.howdah('publish', ...args, '--json')
        expect(status).to.equal(1)
        const { error, steps } = JSON.parse(stdout) as SessionView
        expect(error).to.include({ code })
        expect(error?.message).to.match(message)
        expect(steps.some(({ step }) => step === 'mount')).to.equal(false)
      } finally {
        await restore()
      }
    })
  }
})
