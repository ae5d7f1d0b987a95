import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { expect } from 'chai'
import type { EventBody } from '../../messages/definitions.ts'
import type { SessionView, StepName } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type Traces, watchTraces } from '../support/traces.ts'

describe('the end of a session', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let traces: Traces
  const started: EventBody<'session.step-started'>[] = []
  const children: ChildProcess[] = []
  let mountServerGone = false
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    await fleet.bus.watchEvents('session.*.step-started', ({ type, body }) => {
      if (type === 'session.step-started') started.push(body)
    })
    traces = await watchTraces(fleet)
  })

  afterEach(async function () {
    failed ||= this.currentTest?.state === 'failed'
    for (const child of children.splice(0)) child.kill('SIGKILL')
    if (mountServerGone) await fleet.start('mount-agent')
    mountServerGone = false
  })

  after(async () => {
    await traces?.close()
    await fleet?.remove(failed)
    await production?.remove()
  })

  async function begin(): Promise<string> {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7' }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return reply.session
  }

  async function publish(): Promise<SessionView> {
    const session = await fleet.untilState(await begin(), 'published')
    traces.remember(session.id)
    return session
  }

  async function until(what: string, look: () => Promise<boolean> | boolean): Promise<void> {
    const deadline = Date.now() + 20_000
    while (!(await look())) {
      if (Date.now() > deadline) throw new Error(`not so after 20 s: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  const untilStep = (id: string, step: StepName): Promise<void> =>
    until(`${step} has begun`, () => started.some((one) => one.session === id && one.step === step))

  async function ask(
    type: 'session.unpublish' | 'session.cancel' | 'session.retry',
    session: string,
    more: { keepCache?: boolean } = {},
  ): Promise<void> {
    const reply = await fleet.bus.request(type, { session, ...more })
    if (!reply.accepted) throw new Error(`${type}: ${reply.error.message}`)
  }

  async function killMountServer(): Promise<void> {
    mountServerGone = true
    await fleet.stop('mount-agent', 'SIGKILL')
  }

  /** Unpublishes; nothing is left. */
  async function expectGone({ id }: Pick<SessionView, 'id'>): Promise<SessionView> {
    traces.remember(id)
    await ask('session.unpublish', id)
    const closed = await fleet.untilState(id, 'closed', 40)
    await traces.expectNone()
    return closed
  }

  const mountPid = (id: string): number =>
    Number(execFileSync('pgrep', ['-f', `^howdah mount ${id}$`], { encoding: 'utf8' }))

  const postmasterPid = (id: string): number =>
    Number(
      execFileSync('pgrep', ['-f', '--', `-D ${fleet.mountRoot}/${id}/data`], { encoding: 'utf8' }).split(
        '\n',
      )[0],
    )

  /** Runs SQL on a connection that stays open; its end is not waited for. */
  async function connectAndRun({ connection }: SessionView, text: string): Promise<ChildProcess> {
    if (!connection) throw new Error('no connection')
    const { uid, gid } = await postgresAccount()
    const args = ['-X', '-h', connection.host, '-p', String(connection.port), '-U', connection.user]
    const child = spawn('psql', [...args, '-d', production.database, '-c', text], {
      uid,
      gid,
      cwd: '/',
      stdio: 'ignore',
    })
    children.push(child)
    return child
  }

  const runs = (session: SessionView, text: string): Promise<void> =>
    until(`${text} runs`, async () =>
      (
        await fleet.sql(
          session,
          `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '${text}%' AND state = 'active'`,
        )
      ).startsWith('1'),
    )

  /** A shell whose working directory is in the mount, with a file open there. */
  async function stand(session: SessionView): Promise<ChildProcess> {
    const child = spawn('sh', ['-c', 'exec 3< PG_VERSION; echo; exec sleep 1000'], {
      cwd: `${session.mountPoint}/data`,
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    children.push(child)
    await once(child.stdout as NodeJS.ReadableStream, 'data')
    return child
  }

  for (const step of ['resolve', 'preflight', 'mount', 'recover'] as const) {
    it(`leaves nothing when it is cancelled in the step ${step}`, async () => {
      const id = await begin()
      await untilStep(id, step)
      traces.remember(id)
      await ask('session.cancel', id)
      const { error } = await fleet.untilState(id, 'failed')
      expect(error).to.include({ code: 'cancelled' })
      await traces.expectNone()
    })

    it(`leaves nothing when it is unpublished in the step ${step}`, async () => {
      const id = await begin()
      await untilStep(id, step)
      await expectGone({ id })
    })
  }

  it('leaves nothing when it is unpublished before its first step, or twice, or cancelled meanwhile', async () => {
    await expectGone({ id: await begin() })
    const session = await publish()
    await ask('session.unpublish', session.id)
    await ask('session.cancel', session.id)
    await expectGone(session)
  })

  it('leaves nothing although clients are connected and a shell has its working directory in the mount', async () => {
    const session = await publish()
    await connectAndRun(session, 'SELECT pg_sleep(1000)')
    await runs(session, 'SELECT pg_sleep')
    const shell = await stand(session)
    await expectGone(session)
    expect(shell.exitCode).to.equal(null)
  })

  it('leaves nothing when it is unpublished in the middle of an export', async () => {
    const session = await publish()
    await connectAndRun(session, 'BEGIN; LOCK TABLE notes; SELECT pg_sleep(1000)')
    await runs(session, 'BEGIN; LOCK')
    const path = `${fleet.directory}/export`
    const reply = await fleet.bus.request('session.export', {
      session: session.id,
      databases: [production.database],
      destination: { type: 'directory', path },
    })
    expect(reply.accepted).to.equal(true)
    await untilStep(session.id, 'export')
    await expectGone(session)
    expect(execFileSync('find', [fleet.directory, '-path', `${path}/*`], { encoding: 'utf8' })).to.equal('')
  })

  it('leaves nothing when its mount process hangs while a client waits for it', async () => {
    const session = await publish()
    const shell = await stand(session)
    process.kill(mountPid(session.id), 'SIGSTOP')
    await connectAndRun(session, 'SELECT count(*) FROM pgbench_accounts')
    const reader = spawn('ls', ['-lR', '.'], { cwd: `/proc/${shell.pid}/cwd`, stdio: 'ignore' })
    children.push(reader)
    await expectGone(session)
  })

  it('leaves nothing when its mount process hangs in the middle of recovery', async () => {
    const id = await begin()
    await untilStep(id, 'recover')
    process.kill(mountPid(id), 'SIGSTOP')
    traces.remember(id)
    await ask('session.cancel', id)
    await fleet.untilState(id, 'failed', 40)
    await traces.expectNone()
    await expectGone(await publish())
  })

  it('leaves nothing when the mount server is unreachable while a client waits for it', async () => {
    const session = await publish()
    await killMountServer()
    await connectAndRun(session, 'SELECT sum(abalance) FROM pgbench_accounts')
    await runs(session, 'SELECT sum')
    await expectGone(session)
  })

  for (const step of ['mount', 'recover'] as const) {
    it(`leaves nothing when the mount server becomes unreachable in the step ${step}`, async () => {
      const id = await begin()
      await untilStep(id, step)
      await killMountServer()
      await expectGone({ id })
    })
  }

  for (const [what, harm] of [
    ['its mount process was killed', ({ id }) => process.kill(mountPid(id), 'SIGKILL')],
    ['PostgreSQL was killed', ({ id }) => process.kill(postmasterPid(id), 'SIGKILL')],
    ['PostgreSQL is stopped', ({ id }) => process.kill(postmasterPid(id), 'SIGSTOP')],
    [
      'all of PostgreSQL is stopped',
      ({ id }) =>
        execFileSync('pkill', ['-STOP', '-f', `(-D ${fleet.mountRoot}/${id}|^postgres: howdah-${id})`]),
    ],
    ['its mount was unmounted', ({ mountPoint }) => execFileSync('umount', ['-l', String(mountPoint)])],
    [
      'its mount was unmounted and its mount point replaced by a file',
      ({ mountPoint }) => {
        execFileSync('umount', ['-l', String(mountPoint)])
        writeFileSync(`${mountPoint}/file`, '')
      },
    ],
    [
      'its write cache was removed',
      ({ writeCache }) => rmSync(String(writeCache?.path), { recursive: true }),
    ],
    [
      'half of its write cache was removed',
      ({ writeCache }) => {
        for (const part of ['conf', 'pg_wal', 'files', 'mount.sock'])
          rmSync(`${writeCache?.path}/${part}`, { recursive: true, force: true })
      },
    ],
    [
      'the files of its write cache are damaged',
      ({ writeCache }) => {
        for (const part of ['conf/session.json', 'conf/postgres.json', 'mount.json', 'mount.pid', 'tree.bin'])
          writeFileSync(`${writeCache?.path}/${part}`, 'damaged')
        for (const part of ['journal.sqlite', 'journal.sqlite-wal'])
          writeFileSync(`${writeCache?.path}/${part}`, Buffer.alloc(4096, 0x55))
      },
    ],
  ] as readonly (readonly [string, (session: SessionView) => void])[]) {
    it(`leaves nothing when ${what}`, async () => {
      const session = await publish()
      harm(session)
      await expectGone(session)
    })
  }

  it('does not prevent the target agent from starting when the files of a session are damaged', async () => {
    const session = await publish()
    await fleet.stop('target-agent', 'SIGKILL')
    writeFileSync(`${session.writeCache?.path}/conf/session.json`, '{')
    await fleet.start('target-agent')
    await expectGone(session)
  })
})
