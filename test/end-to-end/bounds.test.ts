/** What commands may ask of a target as it is configured by default, and what other users of it can see of them. */
import { chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import type { ErrorBody } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { postgresUrl } from '../support/postgres-server.ts'
import { makeProduction, type Production } from '../support/production.ts'

const PASSWORD = 'correct-horse-battery'

describe('what commands may ask of a target', function () {
  this.timeout(180_000)
  let production: Production
  let fleet: Fleet
  let directory: string
  let live: URL
  let failed = false

  before(async () => {
    production = await makeProduction({ tablespace: false })
    await production.backup('full')
    await production.writeNotes(10, 'first')
    await production.sql(`SELECT pg_create_restore_point('before the layoffs')`)
    await production.switchWal()
    directory = await mkdtemp('/var/tmp/howdah-bounds-')
    const account = await postgresAccount()
    await mkdir(path.join(directory, 'rescue'))
    for (const made of [directory, path.join(directory, 'rescue')])
      await chown(made, account.uid, account.gid)
    live = new URL(await postgresUrl())
    await writeFile(path.join(directory, 'password'), PASSWORD, { mode: 0o600 })
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: {
        allow: {
          settings: ['session_preload_libraries'],
          exportDirectories: [path.join(directory, 'rescue')],
          exportHosts: [`127.0.0.1:${live.port}`],
        },
        credentials: { live: { user: live.username, passwordFile: path.join(directory, 'password') } },
      },
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
    if (directory !== undefined) await rm(directory, { recursive: true, force: true })
  })

  async function publish(more: Partial<CommandBody<'instance.publish'>>): Promise<string> {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7', ...more }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.session
  }

  it('is refused before anything is mounted, with the field, the value and the key of the configuration', async () => {
    const id = await publish({
      user: 'nobody',
      listen: ['*'],
      settings: { shared_preload_libraries: 'auto_explain', work_mem: '5MB' },
      allowOutbound: ['192.0.2.7'],
    })
    const { error, steps } = await fleet.untilState(id, 'failed')
    const findings = error?.details?.map(({ code, field }: ErrorBody) => `${code} ${field}`)
    expect(findings).to.have.members([
      'not_allowed user',
      'not_allowed listen',
      'not_allowed settings.shared_preload_libraries',
      'not_allowed allowOutbound',
    ])
    for (const part of ['"nobody"', 'allow.users', '"*"', 'allow.listen', 'allow.settings', 'allow.outbound'])
      expect(error?.message).to.include(part)
    expect(steps.map(({ step }) => step)).not.to.include('mount')
  })

  it('is refused before anything is mounted when a rescue may not go where it is to', async () => {
    const destination = { type: 'directory' as const, path: '/srv' }
    const id = await publish({ export: { databases: ['postgres'], destination } })
    const { error, steps } = await fleet.untilState(id, 'failed')
    expect(error).to.include({ code: 'not_allowed', field: 'destination.path' })
    expect(steps.map(({ step }) => step)).not.to.include('mount')
  })

  describe('in a session', () => {
    let session: SessionView
    let seen: CommandLines

    before(async () => {
      seen = watchCommandLines(['hunter2', 'layoffs', '127.0.0.61', '7777kB', PASSWORD, 'auto_explain'])
      const id = await publish({
        recoverTo: { type: 'name', value: 'before the layoffs' },
        listen: ['127.0.0.61'],
        settings: {
          work_mem: '7777kB',
          'app.secret': 'hunter2',
          session_preload_libraries: 'auto_explain',
          default_transaction_read_only: 'off',
        },
      })
      session = await fleet.untilState(id, 'published')
    })

    async function exportTo(destination: CommandBody<'session.export'>['destination']) {
      const reply = await fleet.bus.request('session.export', {
        session: session.id,
        databases: ['postgres'],
        destination,
      })
      if (!reply.accepted) throw new Error(reply.error.message)
      for (;;) {
        const job = (await fleet.show(session.id)).exports?.find(({ id }) => id === reply.export)
        if (job && ['done', 'failed', 'cancelled'].includes(job.status)) return job
        await setImmediate()
      }
    }

    it('is what was asked for', async () => {
      expect(session.connection?.host).to.equal('127.0.0.61')
      // By the socket: the command line of a psql would have the address.
      const { connection } = session
      const local = connection && {
        ...session,
        connection: { ...connection, host: connection.socketDirectory },
      }
      const shown = await fleet.sql(
        local ?? session,
        'SHOW work_mem; SHOW "app.secret"; SHOW session_preload_libraries',
      )
      expect(shown).to.equal('7777kB\nhunter2\nauto_explain')
    })

    it('is exported to directories and hosts that are listed only', async () => {
      for (const [destination, part] of [
        [{ type: 'directory', path: path.join(directory, 'elsewhere') }, 'allow.exportDirectories'],
        [{ type: 'sftp', host: 'files-1', path: '/srv' }, 'allow.exportHosts'],
        [{ type: 'postgres', host: '127.0.0.1', port: 1, credential: 'live' }, 'allow.exportHosts'],
      ] as const) {
        const { status, error } = await exportTo(destination)
        expect([status, error?.code]).to.deep.equal(['failed', 'not_allowed'])
        expect(error?.message).to.include(part)
      }
      const done = await exportTo({ type: 'directory', path: path.join(directory, 'rescue', 'today') })
      expect(done.error).to.equal(undefined)
      expect(await readdir(path.join(directory, 'rescue', 'today'))).to.include('howdah-export.json')
    })

    it('is exported into a running server without a password in a command line', async () => {
      const job = await exportTo({
        ...{ type: 'postgres', host: '127.0.0.1', port: Number(live.port), credential: 'live' },
        database: 'bounds_copy',
      })
      expect(job.error).to.equal(undefined)
    })

    it('has nothing that was asked for in the command line of any process, from its start to its end', async () => {
      await fleet.howdahJson('unpublish', session.id, '--yes')
      const { looks, programs, found } = await seen.end()
      expect(looks).to.be.greaterThan(20)
      // It did look while these ran.
      expect([...programs]).to.include.members(['postgres', 'pg_dump'])
      expect(found).to.deep.equal([])
    })
  })
})

interface CommandLines {
  end(): Promise<{ looks: number; programs: ReadonlySet<string>; found: readonly string[] }>
}

/** Looks again and again at the command lines of all processes for texts that must not be there. */
function watchCommandLines(texts: readonly string[]): CommandLines {
  const found = new Set<string>()
  const programs = new Set<string>()
  let looks = 0
  let isOver = false
  const looking = (async () => {
    while (!isOver) {
      for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
        const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
        programs.add(path.basename(line.split('\0')[0] ?? ''))
        for (const text of texts) if (line.includes(text)) found.add(line.replaceAll('\0', ' '))
      }
      looks += 1
      await setImmediate()
    }
  })()
  return {
    async end() {
      isOver = true
      await looking
      return { looks, programs, found: [...found] }
    },
  }
}
