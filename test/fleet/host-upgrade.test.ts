/**
 * Upgrades of a target agent under load: a published instance, its clients and its mount process go on through each
 * switch of the version, forward and back, on a host without systemd. Coordinator, mount agent and broker are a fleet's.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { testBundle } from '../support/bundle.ts'
import { configurationFile } from '../support/fleet-configuration.ts'
import { type HostRoot, makeHostRoot } from '../support/host-root.ts'
import { poll } from '../support/poll.ts'
import { POSTGRES_BIN } from '../support/postgres-cluster.ts'
import { useProductionFleet } from '../support/production-fleet.ts'

const run = promisify(execFile)
const UNPACK = path.resolve(import.meta.dirname, '../../bin/unpack-bundle')
/** Of the load. */
const CLIENTS = 2
const [FIRST, SECOND, THIRD] = ['9.0.0', '9.1.0', '9.2.0']

interface Status {
  readonly agents: readonly { readonly pid: number; readonly version: string }[]
  readonly versions: readonly { readonly version: string; readonly processes: number }[]
}

describe('an upgrade under load', function () {
  this.timeout(240_000)
  let host: HostRoot
  let session: SessionView
  let load: ChildProcess
  let progress = ''

  const howdah = <T>(version: string, args: string): Promise<T> =>
    host.shell(`/opt/howdah/${version}/bin/howdah ${args} --json`).then((text) => JSON.parse(text) as T)
  const status = () => howdah<Status>('current', 'agent status')

  // Before the fleet is removed, which starts its own agent of that name to clean up.
  after(async function () {
    load?.kill('SIGKILL')
    if (this.currentTest?.state === 'failed' && host !== undefined)
      process.stderr.write(await host.shell('tail -n 60 /var/log/howdah/target-agent.log'))
    try {
      if (session !== undefined) await world.fleet.howdah('unpublish', session.id, '--yes')
      if (host !== undefined) await howdah('current', 'agent stop')
    } finally {
      await host?.remove()
    }
  })

  const world = useProductionFleet()

  before(async () => {
    const { fleet } = world
    await fleet.stop('target-agent')
    host = await makeHostRoot()
    const { file, sha256 } = await testBundle(FIRST)
    await host.shell(`sh ${UNPACK} ${file} ${sha256}`)
    await addVersion(SECOND)
    await howdah(FIRST, `agent setup --kind target --name db-7 --broker '${fleet.brokerUrl}'`)
    await configure()
    await howdah(FIRST, 'agent start')
    await untilOnline(FIRST)
    session = await fleet.untilState(await world.publish(), 'published')
    load = startLoad()
    await progresses()
  })

  it('disturbs neither the published instance nor its mount process, and the new agent takes both over', async () => {
    const before = (await status()).agents[0]
    await howdah(SECOND, `agent switch ${SECOND}`)
    await untilOnline(SECOND)
    await progresses()
    const { agents, versions } = await status()
    expect(agents[0]?.version).to.equal(SECOND)
    expect(agents[0]?.pid).not.to.equal(before?.pid)
    // The mount process.
    expect(versions.find(({ version }) => version === FIRST)?.processes).to.equal(1)
    expect((await world.fleet.show(session.id)).state).to.equal('published')
  })

  it('keeps a version that a mount process still runs, whatever the number of upgrades', async () => {
    await addVersion(THIRD)
    await howdah(THIRD, `agent switch ${THIRD}`)
    await untilOnline(THIRD)
    await progresses()
    expect((await status()).versions.map(({ version }) => version)).to.deep.equal([FIRST, SECOND, THIRD])
  })

  it('is undone by a switch back', async () => {
    await howdah(SECOND, `agent switch ${SECOND}`)
    await untilOnline(SECOND)
    await progresses()
    expect((await world.fleet.show(session.id)).state).to.equal('published')
  })

  it('leaves a mount process that needs none of its files, as when a package manager has removed them', async () => {
    await host.shell(`rm -r /opt/howdah/${FIRST}/dist /opt/howdah/${FIRST}/node_modules`)
    expect(await sql('CHECKPOINT; SELECT count(*) >= 0 FROM pgbench_accounts')).to.equal('t')
    await sql('VACUUM FULL pgbench_history')
    await progresses()
  })

  it('ends with the old version removed, once nothing runs it any more', async () => {
    load.kill('SIGKILL')
    await world.fleet.howdahJson('unpublish', session.id, '--yes')
    await world.fleet.untilState(session.id, 'closed')
    const { changed } = await howdah<{ changed: string[] }>('current', `agent switch ${SECOND}`)
    expect(changed).to.deep.equal([`removed version ${FIRST}`])
  })

  /** As an administrator does: the certificate of the fleet's authority, and ports that nobody else uses. */
  async function configure(): Promise<void> {
    const given = JSON.parse(readFileSync(configurationFile(world.fleet.directory, 'target-agent'), 'utf8'))
    const { tls, postgres, heartbeat } = given as {
      tls: Record<string, string>
      postgres: object
      heartbeat: object
    }
    const inHost = (file: string) => path.join(host.root, 'etc/howdah', file)
    copyFileSync(tls.ca ?? '', inHost('tls/ca.pem'))
    copyFileSync(tls.certificate ?? '', inHost('tls/target-agent.pem'))
    copyFileSync(tls.key ?? '', inHost('tls/target-agent.key'))
    const made = JSON.parse(readFileSync(inHost('target-agent.json'), 'utf8')) as object
    writeFileSync(inHost('target-agent.json'), JSON.stringify({ ...made, postgres, heartbeat }))
  }

  const addVersion = (version: string) =>
    host.shell(
      `cp -a /opt/howdah/${FIRST} /opt/howdah/${version} && sed -i s/${FIRST}/${version}/ /opt/howdah/${version}/package.json`,
    )

  async function untilOnline(version: string): Promise<void> {
    let seen: unknown
    await poll(
      async () => {
        const reply = await world.fleet.bus.request('agent.list', {})
        seen = reply
        const target = reply.accepted ? reply.agents.find(({ kind }) => kind === 'target') : undefined
        return (target?.online === true && target.version === version) || undefined
      },
      { deadlineMs: 60_000, failure: () => `no target agent ${version} is online: ${JSON.stringify(seen)}` },
    )
  }

  const asPostgres = (program: string, ...args: string[]) => {
    const { host: address, port, user } = session.connection ?? { host: '', port: 0, user: '' }
    const where = ['-h', address, '-p', String(port), '-U', user]
    const account = ['setpriv', '--reuid', 'postgres', '--regid', 'postgres', '--init-groups', '--']
    return host.on([...account, path.join(POSTGRES_BIN, program), ...where, ...args])
  }

  async function sql(text: string): Promise<string> {
    const [program, ...args] = asPostgres(
      'psql',
      '-XAtq',
      '-v',
      'ON_ERROR_STOP=1',
      '-d',
      world.production.database,
      '-c',
      text,
    )
    return (await run(program, args, { cwd: '/' })).stdout.trim()
  }

  function startLoad(): ChildProcess {
    const [program, ...args] = asPostgres(
      'pgbench',
      '-n',
      '-c',
      String(CLIENTS),
      '-T',
      '600',
      '-P',
      '1',
      world.production.database,
    )
    const child = spawn(program, args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      progress += text
    })
    return child
  }

  /** The load commits transactions from now on, and had no failure until now. */
  async function progresses(): Promise<void> {
    // Each transaction adds a row.
    const committed = async () => Number(await sql('SELECT count(*) FROM pgbench_history'))
    const before = await committed()
    await poll(async () => (await committed()) > before + CLIENTS || undefined, {
      deadlineMs: 60_000,
      failure: () => `no transactions: ${progress}`,
    })
    if (load.exitCode !== null || /error|aborted|FATAL|[1-9]\d* failed/i.test(progress))
      throw new Error(`pgbench failed: ${progress}`)
  }
})
