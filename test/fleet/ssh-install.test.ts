/**
 * Agents installed over SSH on two bare hosts, from the first login until an instance is published; then upgraded under
 * load, taken back, and removed. The broker, the coordinator and the operator are on the machine itself.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import type { AgentView, SessionView } from '../../messages/values.ts'
import { type Bundle, testBundle } from '../support/bundle.ts'
import { useEnrollingFleet } from '../support/enrolling-fleet.ts'
import { type Hosts, makeHosts } from '../support/hosts.ts'
import { poll } from '../support/poll.ts'
import { POSTGRES_BIN } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type SshHost, startSshHost } from '../support/ssh-host.ts'
import { expectError } from './expect-error.ts'
import { howdah } from './ssh-command.ts'
import { installHere, upgradeHere } from './ssh-installation.ts'
import { makeOperator, type Operator } from './ssh-operator.ts'

/** Of which other test files have the bundles, too. */
const [FIRST, SECOND] = ['9.0.0', '9.1.0']
/** Of pgbench. */
const CLIENTS = 2
/** Where things of Howdah may be on a host. */
const TREES = '/etc /opt /root /home /var/lib /var/log /var/tmp /tmp /run /usr/local'

describe('howdah agent install', function () {
  this.timeout(120_000)
  let backup: SshHost
  let db: SshHost
  let operator: Operator
  let production: Production
  let first: Bundle
  let second: Bundle
  let session: SessionView
  let untouched: string

  const network = useNetwork(['backup', 'db'])
  const fleet = useEnrollingFleet({
    address: () => network.hosts.address('machine'),
    // As agents that were just installed have it.
    heartbeat: {},
  })

  before(async function () {
    this.timeout(400_000)
    first = await testBundle(FIRST)
    second = await testBundle(SECOND)
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    backup = await startSshHost(network.hosts, 'backup', {
      shares: { '/var/lib/pgbackrest': production.path },
    })
    db = await startSshHost(network.hosts, 'db')
    operator = await makeOperator()
    await operator.writeSsh('known_hosts', backup.knownHost + db.knownHost)
    const key = await operator.makeKey('id_ed25519')
    await backup.authorize('root', key)
    await db.addUser('ops')
    await db.authorize('ops', key)
    await db.sudoers('ops ALL=(ALL) NOPASSWD: ALL\n')
    untouched = await inventory(db)
  })

  after(async () => {
    await operator?.remove()
    await db?.stop()
    await backup?.stop()
    await production?.remove()
    // Last: the broker listens on their network.
    await network.hosts?.remove()
  })

  const env = () => fleet.environment(fleet.operator)

  const run = async <T>(...args: string[]): Promise<T> => {
    const { status, stdout, stderr } = await howdah(operator.home, [...args, '--json'], env())
    expect(status, `${stderr}\n${stdout}`).to.equal(0)
    return JSON.parse(stdout) as T
  }

  const installation = (host: string, bundle: Bundle, kind: string, name: string) => [
    ...['agent', 'install', host, '--bundle', bundle.file, '--kind', kind, '--name', name],
  ]

  const install = (host: string, bundle: Bundle, ...more: string[]) =>
    run<{ changed: string[]; version: string; publish: string }>(
      'agent',
      'install',
      host,
      '--bundle',
      bundle.file,
      ...more,
    )

  const installTarget = (bundle: Bundle) =>
    install(`ops@${db.address}`, bundle, '--kind', 'target', '--name', 'db-7')

  const onlineAgents = async (): Promise<AgentView[]> =>
    (await run<{ agents: AgentView[] }>('agents')).agents.filter(({ online }) => online)

  const agentVersion = async (name: string): Promise<string | undefined> =>
    (await onlineAgents()).find((one) => one.name === name)?.version

  /** Until a process of a host has these words in its command line. */
  const untilRuns = (host: string, words: string): Promise<true> =>
    poll(
      async () => {
        for (const pid of await network.hosts.processes(host)) {
          const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
          if (line.replaceAll('\0', ' ').includes(words)) return true
        }
      },
      { deadlineMs: 30_000, everyMs: 10, failure: () => `"${words}" does not run on ${host}` },
    )

  /** Stops the target agent's process as soon as there is a new one. @returns its number, undefined when none came */
  async function freezeNextAgent(): Promise<number | undefined> {
    const recorded = () => readFile(path.join(db.root, 'run/howdah/target-agent.pid'), 'utf8').catch(() => '')
    const last = await recorded()
    const freeze = async (): Promise<number | undefined> => {
      const text = await recorded()
      const [, pid] = /^(\d+) \d+\n?$/.exec(text) ?? []
      if (text === last || pid === undefined) return undefined
      process.kill(Number(pid), 'SIGSTOP')
      return Number(pid)
    }
    const failure = () => 'no agent was started'
    return poll(freeze, { deadlineMs: 30_000, everyMs: 10, failure }).catch(() => undefined)
  }

  const sql = (text: string): Promise<string> => {
    const { socketDirectory, port, user } = session.connection as NonNullable<SessionView['connection']>
    return db.shell(
      `${POSTGRES_BIN}/psql -h ${socketDirectory} -p ${port} -U ${user} -d ${production.database} -Atc "${text}"`,
    )
  }

  it('prints its plan, and changes nothing, with --dry-run', async () => {
    const { plan } = await run<{ plan: string[] }>(
      ...[
        'agent',
        'install',
        `ops@${db.address}`,
        '--bundle',
        first.file,
        '--kind',
        'target',
        '--name',
        'db-7',
        '--dry-run',
      ],
    )
    expect(plan).to.have.length(7)
    expect(plan[0]).to.include(first.file)
    expect(await changesOf(db, untouched)).to.deep.equal([])
  })

  it('is refused, and changes nothing, where the broker cannot be reached from the server', async () => {
    const unreachable = `amqps://${network.hosts.address('machine')}:1/howdah`
    const { status, stdout } = await howdah(
      operator.home,
      [
        ...installation(`ops@${db.address}`, first, 'target', 'db-7'),
        '--agent-broker',
        unreachable,
        '--json',
      ],
      env(),
    )
    expect(status).to.equal(1)
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string } }
    expect(error.code).to.equal('preflight_failed')
    expect(error.message).to.include(`${network.hosts.address('machine')}:1 cannot be reached from there`)
    expect(await changesOf(db, untouched)).to.deep.equal([])
  })

  it('goes on where it ended when the connection is cut after each of its steps', async () => {
    const states: Record<string, string> = {
      upload: 'The bundle is in /opt/howdah, not unpacked',
      unpack: 'user, directories or service may be incomplete',
      setup: 'the agent has no new certificate and was not started',
      certificate: 'The host is set up; which version is current',
    }
    for (const [step, state] of Object.entries(states)) {
      const args = [...installation(`ops@${db.address}`, first, 'target', 'db-7'), '--json']
      const { status, stderr } = await howdah(operator.home, args, env(), (line) => {
        // Each step shows one line when it has ended.
        if (line.includes(` ${step} `)) void db.cutConnections()
      })
      expect(status, `cut after ${step}: ${stderr}`).to.equal(1)
      expect(stderr).to.include(state).and.to.include('The same command goes on from there.')
    }
  })

  it('goes on where it ended when the connection is cut while the agent is started', async () => {
    let cut: Promise<void> | undefined
    const args = [...installation(`ops@${db.address}`, first, 'target', 'db-7'), '--json']
    const { status, stderr } = await howdah(operator.home, args, env(), (line) => {
      if (line.includes(' switch ')) cut = untilRuns('db', 'agent start').then(db.cutConnections)
    })
    await cut
    expect(status, stderr).to.equal(1)
    expect(stderr).to.match(/\bstart: /)
    expect(stderr).to.include(
      'Everything is installed; whether the agent runs says "howdah agent status" there. The same command goes on from there.',
    )
    // What was begun there goes on without the connection.
    await fleet.untilOnline('db-7')
  })

  it('says that an agent is not online, and that its log cannot be read, when the connection is cut then', async () => {
    await db.shell('howdah agent stop')
    const frozen = freezeNextAgent()
    let cut: Promise<void> | undefined
    const failed = installHere({
      ...{ fleet, operator, host: `ops@${db.address}`, bundle: first, kind: 'target', name: 'db-7' },
      onlineMs: 1_000,
      onStep(step) {
        if (step === 'start') cut = db.cutConnections()
      },
    })
    try {
      await expectError(
        failed,
        'timeout',
        'online: the agent was not online after 1 s. Its log there ends with: (it cannot be read: ',
        'Everything is installed and the agent was started, and the coordinator has not heard of it. The same command goes on from there.',
      )
    } finally {
      await cut
      const agent = await frozen
      if (agent !== undefined) process.kill(agent, 'SIGCONT')
    }
  })

  it('needs the connection no longer when the agent was started', async () => {
    let cut: Promise<void> | undefined
    const args = [...installation(`ops@${db.address}`, first, 'target', 'db-7'), '--json']
    const { status, stdout, stderr } = await howdah(operator.home, args, env(), (line) => {
      if (line.includes(' start ')) cut = db.cutConnections()
    })
    await cut
    expect(status, stderr).to.equal(0)
    expect(JSON.parse(stdout)).to.include({ name: 'db-7', version: FIRST })
  })

  it('brings a mount agent and a target agent online, and publishes', async () => {
    const mount = await install(
      ...([`root@${backup.address}`, first, '--kind', 'mount', '--name', 'backup-1'] as const),
      ...['--repository', 'prod=pgbackrest:/var/lib/pgbackrest'],
    )
    expect(mount.changed).to.include.members(['upload', 'unpack', 'setup', 'certificate', 'start'])
    const target = await installTarget(first)
    expect(target.publish).to.equal(
      `howdah publish --repository prod --instance ${production.stanza} --target db-7`,
    )
    session = await run<SessionView>(...target.publish.split(' ').slice(1))
    expect(session.state).to.equal('published')
    expect(await sql('SELECT count(*) FROM notes')).to.equal('1000\n')
  })

  it('changes nothing when it is run again', async () => {
    expect((await installTarget(first)).changed).to.deep.equal([])
  })

  it('is refused for another name than that of the agent that is there', async () => {
    const args = [...installation(`ops@${db.address}`, first, 'target', 'db-8'), '--json']
    const { status, stdout } = await howdah(operator.home, args, env())
    expect(status).to.equal(1)
    expect(JSON.parse(stdout).error.message).to.include('is of the target agent "db-7"')
  })

  it('is refused for a name that is online on another host', async () => {
    const args = [
      'agent',
      'install',
      `root@${backup.address}`,
      '--bundle',
      first.file,
      '--kind',
      'target',
      '--name',
      'db-7',
    ]
    const { status, stdout } = await howdah(operator.home, [...args, '--json'], env())
    expect(status).to.equal(1)
    expect(JSON.parse(stdout).error).to.include({ code: 'agent_in_use' })
  })

  it('ends an upgrade with the wave in which a server is not well; the others keep their version and their agents', async () => {
    const file = path.join(backup.root, 'etc/howdah/mount-agent.json')
    const configuration = await readFile(file, 'utf8')
    const before = await onlineAgents()
    const programs = await db.shell('ls /opt/howdah')
    await writeFile(file, JSON.stringify({ ...JSON.parse(configuration), unheardOf: true }))
    try {
      const upgrade = ['agent', 'upgrade', '--all', '--batch', '1', '--bundle', second.file, '--json']
      const { status, stdout, stderr } = await howdah(operator.home, upgrade, env())
      expect(status, stderr).to.equal(1)
      const outcome = JSON.parse(stdout)
      expect(outcome).to.deep.include({ done: [], changed: [], untouched: [`ops@${db.address}`] })
      expect(outcome.failed).to.have.length(1)
      expect(outcome.error.message)
        .to.match(new RegExp(`^root@${backup.address}: .*version ${SECOND} does not take the configuration`))
        .and.to.include('unheardOf')
      expect(stderr).to.include('Wave 1 of 2').and.not.to.include('Wave 2')
      expect(stderr.match(/: uploading$/gm)).to.have.length(1)
    } finally {
      await writeFile(file, configuration)
    }
    const identity = ({ name, instance, version }: AgentView) => ({ name, instance, version })
    expect((await onlineAgents()).map(identity)).to.deep.equal(before.map(identity))
    expect(before.map(({ version }) => version)).to.deep.equal([FIRST, FIRST])
    expect(await db.shell('ls /opt/howdah')).to.equal(programs)
  })

  it('says that a server is not well whose agent does not come online in the new version, which the way back mends', async () => {
    const frozen = freezeNextAgent()
    const host = `ops@${db.address}`
    const failed = upgradeHere({ ...{ fleet, operator, host, bundle: second }, healthyMs: 2_000 })
    await expectError(failed, 'timeout', 'the agent was not online after ', 'Its log there ends with: ')
    const agent = await frozen
    expect(agent, 'the frozen agent').to.not.equal(undefined)
    process.kill(Number(agent), 'SIGCONT')
    await run('agent', 'rollback', host)
    expect(await agentVersion('db-7')).to.equal(FIRST)
    expect((await run<SessionView>('show', session.id)).state).to.equal('published')
  })

  it('keeps pgbench running through an upgrade and the way back', async () => {
    const { socketDirectory, port, user } = session.connection as NonNullable<SessionView['connection']>
    const bench = `${POSTGRES_BIN}/pgbench -h ${socketDirectory} -p ${port} -U ${user} -n -c ${CLIENTS} -T 300 -P 1 ${production.database}`
    const [program, ...args] = db.on(['/bin/sh', '-c', `exec ${bench} 2>&1`])
    const load = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    let said = ''
    load.stdout.on('data', (chunk: Buffer) => {
      said += chunk
    })
    const progressed = async (): Promise<void> => {
      // Each transaction adds a row.
      const committed = async () => Number(await sql('SELECT count(*) FROM pgbench_history'))
      const before = await committed()
      await poll(async () => ((await committed()) > before + CLIENTS ? true : undefined), {
        deadlineMs: 15_000,
        failure: () => `pgbench stands still: ${said}`,
      })
    }
    try {
      await progressed()
      const upgraded = await run<{ done: string[]; changed: string[] }>(
        'agent',
        'upgrade',
        '--all',
        '--bundle',
        second.file,
      )
      expect(upgraded.done).to.have.members([`root@${backup.address}`, `ops@${db.address}`])
      expect([await agentVersion('db-7'), await agentVersion('backup-1')]).to.deep.equal([SECOND, SECOND])
      await progressed()
      const back = await run<{ changed: string[] }>('agent', 'rollback', `ops@${db.address}`)
      expect(back.changed).to.deep.equal([`ops@${db.address}`])
      expect(await agentVersion('db-7')).to.equal(FIRST)
      await progressed()
      expect(load.exitCode).to.equal(null)
      expect(said).to.not.match(/error|abort|fatal|[1-9]\d* failed/i)
    } finally {
      const ended = once(load, 'exit')
      load.kill()
      await ended
    }
    const now = await run<SessionView>('show', session.id)
    expect(now.state).to.equal('published')
  })

  it('is not undone while there are sessions, unless forced; then nothing is left of it', async () => {
    const uninstall = ['agent', 'uninstall', `ops@${db.address}`]
    const refused = await howdah(operator.home, [...uninstall, '--json'], env())
    expect(refused.status).to.equal(1)
    expect(JSON.parse(refused.stdout).error.message).to.include(session.id)
    const { removed } = await run<{ removed: object[] }>(...uninstall, '--force')
    expect(removed).to.deep.equal([{ kind: 'target', name: 'db-7' }])
    expect(await changesOf(db, untouched)).to.deep.equal([])
    const { agents } = await run<{ agents: { name: string }[] }>('agents')
    expect(agents.map(({ name }) => name)).to.deep.equal(['backup-1'])
    const known = JSON.parse(await readFile(path.join(operator.home, '.config/howdah/hosts.json'), 'utf8'))
    expect(known.hosts).to.have.length(1)
  })
})

/** Made before everything that listens on it; the caller removes it. */
function useNetwork(names: readonly string[]): { hosts: Hosts } {
  const network = {} as { hosts: Hosts }
  before(async () => {
    network.hosts = await makeHosts(names)
  })
  return network
}

/** What is new and what is gone on a host. */
async function changesOf(host: SshHost, before: string): Promise<string[]> {
  const [old, now] = [before.split('\n'), (await inventory(host)).split('\n')]
  const gone = old.filter((line) => !now.includes(line)).map((line) => `gone: ${line}`)
  return [...now.filter((line) => !old.includes(line)), ...gone]
}

/** All files of a host's own, with what says whether one was changed; without the copies that useradd(8) keeps, as passwd-. */
function inventory(host: SshHost): Promise<string> {
  return host.shell(
    `find ${TREES} -xdev \\( -path /etc/\\*- -o -path /var/log/\\* -o -path /root/.\\* -o -path /home/\\*/.\\* -o -path /run/sudo\\* -o -path /run/motd.dynamic -o -path /var/lib/sudo\\* \\) -prune -o -type f -printf '%p %s %m %U\\n' -o -type l -printf '%p %l\\n' -o -printf '%p %m %U\\n' | sort`,
  )
}
