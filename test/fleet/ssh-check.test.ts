/** `howdah agent check`: what it finds on a real host, and what findings mean. */
import { createServer, type Server } from 'node:net'
import { expect } from 'chai'
import { parseFacts } from '../../coordinator/fleet/install/host-facts.ts'
import {
  type Circumstances,
  findings,
  type HostFinding,
} from '../../coordinator/fleet/install/host-findings.ts'
import { type Hosts, makeHosts } from '../support/hosts.ts'
import { POSTGRES_MAJOR } from '../support/postgres-cluster.ts'
import { type SshHost, startSshHost } from '../support/ssh-host.ts'
import { howdah, howdahOnTerminal } from './ssh-command.ts'
import { makeOperator, type Operator } from './ssh-operator.ts'

const OFFSET_S = 7200
const PASSWORD = 'correct horse'

describe('howdah agent check', function () {
  this.timeout(30_000)
  let hosts: Hosts
  let host: SshHost
  let operator: Operator
  let server: Server
  let port = 0

  before(async () => {
    hosts = await makeHosts(['db'])
    host = await startSshHost(hosts, 'db')
    operator = await makeOperator()
    await operator.writeSsh('known_hosts', host.knownHost)
    const key = await operator.makeKey('id_ed25519')
    await host.authorize('root', key)
    await host.addUser('ops')
    await host.authorize('ops', key)
    server = createServer((socket) => socket.destroy()).listen(0, hosts.address('machine'))
    await new Promise((resolve) => server.once('listening', resolve))
    port = (server.address() as { port: number }).port
  })

  after(async () => {
    server?.close()
    await operator?.remove()
    await host?.stop()
    await hosts?.remove()
  })

  const check = async (user: string, ...more: string[]) => {
    const finished = await howdah(operator.home, [
      'agent',
      'check',
      `${user}@${host.address}`,
      '--json',
      ...more,
    ])
    const document = JSON.parse(finished.stdout) as { findings: HostFinding[]; error?: { code: string } }
    const of = (check: string): string[] =>
      document.findings
        .filter((one) => one.check === check)
        .map(({ level, message }) => `${level}: ${message}`)
    return { ...finished, ...document, of }
  }

  it('finds everything in one pass, and changes nothing', async () => {
    await host.shell('touch /run/mark')
    const { status, of, error } = await check(
      'root',
      '--kind',
      'target',
      '--reach',
      `${hosts.address('machine')}:${port}`,
    )
    expect(error).to.equal(undefined)
    expect(status).to.equal(0)
    expect(of('login')).to.deep.equal(['ok: The login is root.'])
    expect(of('libc')[0]).to.match(/^ok: GNU libc 2\.\d+$/)
    expect(of('init')[0]).to.match(/^ok: No systemd/)
    expect(of('fuse')[0]).to.match(/^ok: \/dev\/fuse is usable/)
    expect(of('postgresql')[0]).to.match(new RegExp(`^ok: PostgreSQL .*\\b${POSTGRES_MAJOR}\\.`))
    expect(of('clock')[0]).to.match(/^ok: The clock is right, within [01]\.\d s\.$/)
    expect(of('network')).to.deep.equal([
      `ok: ${hosts.address('machine')}:${port} can be reached from there.`,
    ])
    expect(of('howdah')).to.deep.equal(['ok: Nothing of Howdah is there yet.'])
    const changed = await host.shell(
      'find /etc /opt /root /home /var/lib /var/tmp /tmp /usr/local -newer /run/mark',
    )
    expect(changed).to.equal('')
  })

  it('reports all that is wrong at once: no root, unreachable addresses, a missing device, an agent that is there', async () => {
    await host.sudoers('')
    await host.shell(
      'mkdir -p /opt/howdah/1.0.0 /etc/howdah && touch /opt/howdah/1.0.0/package.json && ln -s 1.0.0 /opt/howdah/current &&' +
        ' echo \'{"name": "db-7"}\' >/etc/howdah/target-agent.json && mount -t tmpfs -o size=1m,noexec tmpfs /opt/howdah/1.0.0',
    )
    try {
      const unreachable = `${host.address}:1`
      const { status, of, error } = await check('ops', '--reach', unreachable)
      expect([status, error?.code]).to.deep.equal([1, 'preflight_failed'])
      expect(of('login')[0]).to.include('Nothing can be installed without becoming root: sudo on')
      expect(of('network')[0]).to.match(/^error: \S+:1 cannot be reached from there \(.*[Rr]efused/)
      expect(of('howdah')).to.deep.equal(['ok: Howdah 1.0.0 is installed, with the target agent "db-7".'])
    } finally {
      await host.shell('umount /opt/howdah/1.0.0; rm -r /opt/howdah /etc/howdah')
    }
  })

  it('says by words what it found, one finding a line', async () => {
    const { status, stdout } = await howdah(operator.home, ['agent', 'check', `root@${host.address}`])
    expect(status).to.equal(0)
    expect(stdout).to.match(/^\+ login {2,}The login is root\.\n\+ system/)
  })

  it('asks on a terminal for what it needs, and shows no password', async () => {
    await host.addUser('typist', PASSWORD)
    await host.sudoers('typist ALL=(ALL) ALL\n')
    await operator.writeSsh('known_hosts', '')
    const args = ['agent', 'check', `typist@${host.address}`]
    const { status, shown } = await howdahOnTerminal(operator.home, args, [
      ['[y/N]', 'yes\r'],
      ['assword:', `${PASSWORD.slice(0, 3)}x\x7f${PASSWORD.slice(3)}\r`],
    ])
    expect(status, shown).to.equal(0)
    expect(shown.replace(/\s+/g, ' ')).to.include(host.fingerprint).and.to.include('becomes root by sudo')
    expect(shown).to.not.include(PASSWORD).and.to.not.include(PASSWORD.slice(3))
    // Debian's configuration hashes the name.
    expect(await operator.readSsh('known_hosts')).to.include(host.knownHost.split(' ')[2]?.trim())
  })

  it('ends at Ctrl-C while it asks for a password, and leaves the terminal as it was', async () => {
    const args = ['agent', 'check', `typist@${host.address}`]
    const { status, shown } = await howdahOnTerminal(operator.home, args, [['assword:', '\x03']])
    expect(status, shown).to.equal(130)
    expect(shown).to.include('stopped by SIGINT')
  })

  it('takes no output that was cut off for a host without anything', () => {
    expect(parseFacts('uid 0\nkernel 6.1.0\n')).to.equal(undefined)
  })

  describe('says what to do about', () => {
    const GOOD = `uid 0
system Debian GNU/Linux 12
kernel 6.1.0-13-amd64
machine x86_64
libc glibc 2.36
systemd 252
fuse usable
${['fusermount3', 'unshare', 'mount', 'umount', 'pivot_root', 'setpriv', 'nft', 'tar', 'gzip', 'sha256sum'].map((name) => `program ${name} /usr/bin/${name}`).join('\n')}
cgroup2 yes
postgres 15.4 /usr/lib/postgresql/15/bin/postgres
user postgres 101
space /opt 90000000 ext4 rw,relatime
space /var/tmp 90000000 ext4 rw,nosuid,nodev
`
    const judged = (
      change: (text: string) => string,
      circumstances: Partial<Circumstances> = {},
    ): string[] => {
      const facts = parseFacts(`${change(GOOD)}end\n`)
      if (facts === undefined) throw new Error('no facts')
      const usual = {
        kind: 'target',
        clockOffsetMs: 0,
        clockErrorMs: 20,
        neededBytes: 600e6,
        root: { how: 'root' },
      } as const
      return findings(facts, { ...usual, ...circumstances })
        .filter(({ level }) => level !== 'ok')
        .map(({ level, check: name, message }) => `${level} ${name}: ${message}`)
    }

    it('nothing, where all is well', () => {
      expect(judged((text) => text)).to.deep.equal([])
    })

    const cases: readonly (readonly [string, RegExp, (text: string) => string, Partial<Circumstances>?])[] = [
      ['musl', /^error libc: .*musl.*GNU libc/, (text) => text.replace('glibc 2.36', 'musl')],
      [
        'an old C library',
        /^error libc: GNU libc 2\.17 is too old: 2\.28/,
        (text) => text.replace('2.36', '2.17'),
      ],
      [
        'an old kernel',
        /^error kernel: Linux 3\.10\.0-1160 is too old/,
        (text) => text.replace('6.1.0-13-amd64', '3.10.0-1160'),
      ],
      ['another processor', /^error architecture: .*aarch64/, (text) => text.replace('x86_64', 'aarch64')],
      ['no /dev/fuse', /^error fuse: .*modprobe fuse/, (text) => text.replace('fuse usable\n', '')],
      [
        'a closed /dev/fuse',
        /^error fuse: .*cannot be opened/,
        (text) => text.replace('fuse usable', 'fuse closed'),
      ],
      [
        'no nftables',
        /^error isolation: nft is missing.*Install nftables/,
        (text) => text.replace(/program nft .*\n/, ''),
      ],
      [
        'no cgroup 2',
        /^error isolation: .*unified_cgroup_hierarchy/,
        (text) => text.replace('cgroup2 yes\n', ''),
      ],
      [
        'no PostgreSQL',
        /^warning postgresql: .*postgresql-NN/,
        (text) => text.replace(/postgres 15.*\n/, ''),
      ],
      [
        'a full /opt',
        /^error room: \/opt has .* free, and an installation takes/,
        (text) => text.replace('/opt 90000000', '/opt 1000'),
      ],
      [
        'a full /var/tmp',
        /^warning room: \/var\/tmp has/,
        (text) => text.replace('/var/tmp 90000000', '/var/tmp 1000'),
      ],
      ['noexec', /^error mount options: .*\/opt.*noexec/, (text) => text.replace('rw,relatime', 'rw,noexec')],
      [
        'a read-only disk',
        /^error mount options: \/opt is mounted read-only/,
        (text) => text.replace('rw,relatime', 'ro'),
      ],
      ['SELinux', /^warning access control: SELinux is enforcing/, (text) => `${text}selinux enforcing\n`],
      [
        'the Debian package',
        /^error howdah: Howdah 1\.2\.0 came by the Debian package/,
        (text) => `${text}package 1.2.0\n`,
      ],
      [
        'what could not be tried',
        /^warning network: Whether db:5671 .*could not be tried/,
        (text) => `${text}reach db 5671 untried\n`,
      ],
      [
        'a clock that is off',
        /^warning clock: The clock is 7200\.0 s ahead/,
        (text) => text,
        { clockOffsetMs: OFFSET_S * 1000 },
      ],
      [
        'a clock that is a day behind',
        /^error clock: The clock is 86400\.0 s behind.*not valid yet/,
        (text) => text,
        { clockOffsetMs: -86_400_000 },
      ],
    ]
    for (const [what, expected, change, circumstances] of cases)
      it(what, () => {
        const found = judged(change, circumstances)
        expect(found).to.have.length(1)
        expect(found[0]).to.match(expected)
      })

    it('nothing that only a target needs, of a mount server', () => {
      const bare = (text: string) =>
        text.replace(/fuse usable\n|cgroup2 yes\n|postgres 15.*\n|program nft.*\n/g, '')
      expect(judged(bare, { kind: 'mount' })).to.deep.equal([])
    })
  })
})
