/**
 * A fleet from nothing: the commands of docs/fleet.md, as they stand there, on three hosts on which nothing of Howdah is.
 *
 * What is given is what that page says: the hosts reach each other by name, root of broker-1 logs in to the others by SSH,
 * one has a repository, one the programs of PostgreSQL. The hosts share the programs of this machine, so that the packages
 * of the distribution need no network; Howdah's own is installed by apt. Services are started by a stand-in for systemctl,
 * because no systemd runs here.
 */
import { execFile } from 'node:child_process'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { testBundle } from '../support/bundle.ts'
import { type Hosts, makeHosts } from '../support/hosts.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type SshHost, startSshHost } from '../support/ssh-host.ts'

const run = promisify(execFile)
const PAGE = path.resolve(import.meta.dirname, '../../docs/fleet.md')
const NAMES = ['broker-1', 'backup-1', 'db-7'] as const
type Name = (typeof NAMES)[number]
/** The whole is promised in three minutes. */
const PROMISED_MS = 180_000

const SYSTEMCTL = `#!/bin/sh
case "$*" in
  'restart rabbitmq-server')
    rabbitmqctl -q shutdown >/dev/null 2>&1
    setsid rabbitmq-server </dev/null >/var/log/rabbitmq/server.log 2>&1 &
    timeout 90 sh -c 'until rabbitmqctl -q await_startup >/dev/null 2>&1; do sleep 0.2; done' || {
      tail -n 40 /var/log/rabbitmq/* >&2
      exit 1
    }
    ;;
  'enable --now howdah-coordinator') setsid /opt/howdah/current/bin/howdah-supervise coordinator >/dev/null 2>&1 & ;;
  *) echo "systemctl $*: this stand-in does not know that" >&2; exit 1 ;;
esac
`

describe('a fleet from nothing', function () {
  this.timeout(PROMISED_MS)
  let hosts: Hosts
  let production: Production
  const servers = {} as Record<Name, SshHost>
  let notes: string
  let published = false

  before(async function () {
    this.timeout(240_000)
    const version = '0.1.0'
    const [bundle, made] = [
      await testBundle(version),
      await makeProduction({ ...REPOSITORY, stanza: 'shop' }),
    ]
    production = made
    await production.backup('full')
    notes = await production.sql('select count(*) from notes')
    await production.stop()
    hosts = await makeHosts(NAMES)
    for (const name of NAMES) {
      const shares = name === 'backup-1' ? { '/var/lib/pgbackrest': production.path } : {}
      servers[name] = await startSshHost(hosts, name, { shares })
    }
    for (const name of NAMES) await makeKnown(name)
    await prepareBrokerMachine(servers['broker-1'])
    await copyFile(bundle.debianPackage, path.join(servers['broker-1'].root, 'root/howdah_0.1.0_amd64.deb'))
  })

  after(async function () {
    this.timeout(60_000)
    if (published) await unpublishAll().catch(() => undefined)
    for (const name of NAMES) await servers[name]?.stop()
    await hosts?.remove()
    await production?.remove()
  })

  it('works after the commands of the page, within three minutes', async () => {
    const begun = performance.now()
    for (const command of await commandsOf(PAGE, 'A fleet from nothing')) {
      const from = performance.now()
      await servers['broker-1'].shell(`cd /root && ${command}`)
      process.stderr.write(`      ${((performance.now() - from) / 1000).toFixed(1)} s  ${command}\n`)
    }
    published = true
    const rows = await query('select count(*) from notes')
    const seconds = (performance.now() - begun) / 1000
    expect(rows).to.equal(notes)
    process.stderr.write(`      ${seconds.toFixed(1)} s to the answered query\n`)
    expect(seconds).to.be.below(PROMISED_MS / 1000)
  })

  it('gives no agent a password, and no agent the right to send a command', async () => {
    for (const [name, role] of [
      ['backup-1', 'mount-agent'],
      ['db-7', 'target-agent'],
    ] as const) {
      const configuration = await servers[name].shell(`cat /etc/howdah/${role}.json`)
      expect(configuration)
        .to.include('amqps://broker-1:5671/howdah')
        .and.not.match(/password|:[^/]*@/i)
      const client = `HOWDAH_BROKER_CA=/etc/howdah/tls/ca.pem HOWDAH_BROKER_CERTIFICATE=/etc/howdah/tls/${role}.pem HOWDAH_BROKER_KEY=/etc/howdah/tls/${role}.key howdah sessions --broker amqps://broker-1:5671/howdah --timeout 10 --json 2>&1 || true`
      expect(await servers[name].shell(client)).to.match(/access|refused|permission/i)
    }
  })

  it('changes nothing when the commands are given again', async () => {
    const again = await servers['broker-1'].shell('howdah fleet init --address broker-1 --json')
    expect(JSON.parse(again)).to.deep.include({ changed: [] })
    const install = 'howdah agent install root@db-7 --kind target --name db-7 --json'
    expect(JSON.parse(await servers['broker-1'].shell(install))).to.deep.include({ changed: [] })
    expect(await query('select count(*) from notes')).to.equal(notes)
  })

  it('keeps a limit that was tuned at the broker when that is restarted', async () => {
    const limit = '{"max-length":4321}'
    const set = `rabbitmqctl -q set_policy -p howdah --apply-to queues howdah-dead-letters '^howdah\\.dead-letters$' '${limit}'`
    await servers['broker-1'].shell(`${set} && systemctl restart rabbitmq-server`)
    expect(await servers['broker-1'].shell('rabbitmqctl -q list_policies -p howdah')).to.include(limit)
  })

  it('leaves nothing on a server from which the agent is uninstalled', async () => {
    const broker = servers['broker-1']
    await unpublishAll()
    await broker.shell('howdah agent uninstall root@db-7')
    const left = 'find /etc /opt /var/lib /var/log /var/tmp /usr/local /tmp -iname "*howdah*" | sort'
    expect(await servers['db-7'].shell(left)).to.equal('')
  })

  async function unpublishAll(): Promise<void> {
    const { sessions } = JSON.parse(await servers['broker-1'].shell('howdah sessions --json')) as {
      sessions: { id: string }[]
    }
    for (const { id } of sessions) await servers['broker-1'].shell(`howdah unpublish --yes ${id}`)
  }

  /** The published instance answers on its own server, by the connection that the session names. */
  async function query(sql: string): Promise<string> {
    const listed = JSON.parse(await servers['broker-1'].shell('howdah sessions --json')) as {
      sessions: { connection: { port: number; socketDirectory: string } }[]
    }
    const [session] = listed.sessions
    if (session === undefined) throw new Error('there is no session')
    const { port, socketDirectory } = session.connection
    const psql = `psql -h ${socketDirectory} -p ${port} -U ${production.user} -d ${production.database} -Atqc "${sql}"`
    return (await servers['db-7'].shell(psql)).trim()
  }

  async function makeKnown(name: Name): Promise<void> {
    const lines = NAMES.map((other) => `${hosts.address(other)} ${other}\n`).join('')
    const file = path.join(servers[name].root, 'etc/hosts')
    await writeFile(file, `127.0.0.1 localhost ${(await run('hostname')).stdout.trim()}\n${lines}`)
  }

  /** Keys for SSH, known hosts, the packages of this machine as the ones that are installed, and no systemd. */
  async function prepareBrokerMachine(server: SshHost): Promise<void> {
    await server.shell(
      [
        'mkdir -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519',
        // What apt installs goes into layers of this host's own.
        'mkdir -p /opt/.layers/usr /opt/.layers/usr-work /opt/.layers/cache /opt/.layers/cache-work',
      ].join(' && '),
    )
    for (const directory of ['var/lib/dpkg', 'var/lib/apt'])
      await run('cp', ['-a', `/${directory}`, path.join(server.root, 'var/lib')])
    const publicKey = await readFile(path.join(server.root, 'root/.ssh/id_ed25519.pub'), 'utf8')
    const known: string[] = []
    for (const name of ['backup-1', 'db-7'] as const) {
      await servers[name].authorize('root', publicKey)
      known.push(servers[name].knownHost.replace(/^\S+/, name))
    }
    await writeFile(path.join(server.root, 'root/.ssh/known_hosts'), known.join(''))
    const layer = (lower: string, name: string, on: string) =>
      `mount -t overlay overlay -o lowerdir=${lower},upperdir=/opt/.layers/${name},workdir=/opt/.layers/${name}-work ${on}`
    await server.shell(
      [
        'mkdir /opt/.local && mount --rbind /usr/local /opt/.local',
        layer('/usr', 'usr', '/usr'),
        'mount --rbind /opt/.local /usr/local',
        layer('/var/cache', 'cache', '/var/cache'),
        'install -d -o rabbitmq -g rabbitmq /var/lib/rabbitmq /var/log/rabbitmq',
      ].join(' && '),
    )
    const bin = path.join(server.root, 'usr/local/bin')
    await mkdir(bin, { recursive: true })
    await writeFile(path.join(bin, 'systemctl'), SYSTEMCTL, { mode: 0o755 })
  }
})

const REPOSITORY = { compress: 'gz', bundle: false, tablespace: false } as const

/** The lines of the first block of shell commands under a heading. */
async function commandsOf(file: string, heading: string): Promise<string[]> {
  const text = await readFile(file, 'utf8')
  const [, section = ''] = text.split(`## ${heading}\n`)
  const [, block = ''] = /```sh\n([\s\S]*?)```/.exec(section) ?? []
  const commands = block.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  if (commands.length === 0) throw new Error(`${file} has no commands under "${heading}"`)
  return commands
}
