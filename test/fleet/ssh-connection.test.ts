/** Logging in to a host over SSH, against Debian's sshd: keys, passwords, host keys, jump hosts. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { type RootShell, rootShell } from '../../coordinator/fleet/ssh/elevation.ts'
import { runScript } from '../../coordinator/fleet/ssh/remote-script.ts'
import { createSecrets } from '../../coordinator/fleet/ssh/secrets.ts'
import { type Hosts, makeHosts } from '../support/hosts.ts'
import { type SshHost, startSshHost } from '../support/ssh-host.ts'
import { expectError } from './expect-error.ts'
import { type ConnectionOptions, makeOperator, type Operator, prompter } from './ssh-operator.ts'

const run = promisify(execFile)
const PASSWORD = 'correct horse'
const running = { signal: new AbortController().signal, deadlineMs: 20_000 }

describe('A connection over SSH', function () {
  this.timeout(30_000)
  let hosts: Hosts
  let host: SshHost
  let jump: SshHost
  let operator: Operator

  before(async () => {
    hosts = await makeHosts(['db', 'jump'])
    host = await startSshHost(hosts, 'db')
    jump = await startSshHost(hosts, 'jump')
    await host.addUser('ops', PASSWORD)
    await jump.addUser('hop', PASSWORD)
  })

  after(async () => {
    await host?.stop()
    await jump?.stop()
    await hosts?.remove()
  })

  beforeEach(async () => {
    operator = await makeOperator()
    await operator.writeSsh('known_hosts', host.knownHost + jump.knownHost)
  })

  afterEach(() => operator?.remove())

  const whoAmI = async (user: string, options?: ConnectionOptions): Promise<string> => {
    const connection = await operator.connect(`${user}@${host.address}`, options)
    return (await runScript(connection, 'id -un', running)).stdout.trim()
  }

  for (const type of ['ed25519', 'ecdsa', 'rsa'])
    it(`is made with an ${type} key of a default name`, async () => {
      await host.authorize('ops', await operator.makeKey(`id_${type}`, { type }))
      expect(await whoAmI('ops')).to.equal('ops')
    })

  for (const [what, options] of [
    ["OpenSSH's", {}],
    ["PEM's", { type: 'rsa', pem: true }],
  ] as const)
    it(`asks once for the passphrase of a key in ${what} format, and only when the server takes the key`, async () => {
      await host.authorize('ops', await operator.makeKey('other', { ...options, passphrase: 'secret' }))
      await operator.makeKey('id_ecdsa', { type: 'ecdsa', passphrase: 'never asked for' })
      const other = path.join(operator.home, '.ssh/other')
      await operator.writeSsh(
        'config',
        `Host *\n  IdentityFile ~/.ssh/id_ecdsa\n  IdentityFile %d/.ssh/other\n`,
      )
      const secrets = createSecrets(prompter(['wrong', 'secret'], operator.heard))
      expect(await whoAmI('ops', { secrets })).to.equal('ops')
      expect(await whoAmI('ops', { secrets })).to.equal('ops')
      expect(operator.heard).to.deep.equal([
        `Enter passphrase for key '${other}': `,
        `Wrong passphrase for ${other}.`,
        `Enter passphrase for key '${other}': `,
      ])
    })

  it('is made with the keys of an ssh-agent, of which IdentitiesOnly leaves those that are named', async () => {
    for (const type of ['ed25519', 'rsa', 'ecdsa'])
      await host.authorize('ops', await operator.makeKey(`agent_${type}`, { type }))
    const socket = path.join(operator.home, 'agent.sock')
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: ['ignore', 'pipe', 'ignore'] })
    try {
      await once(agent.stdout, 'data')
      for (const type of ['ed25519', 'rsa', 'ecdsa']) {
        await run('ssh-add', ['-q', `${operator.home}/.ssh/agent_${type}`], {
          env: { SSH_AUTH_SOCK: socket },
        })
        expect(await whoAmI('ops', { env: { SSH_AUTH_SOCK: socket } }), type).to.equal('ops')
        await run('ssh-add', ['-q', '-D'], { env: { SSH_AUTH_SOCK: socket } })
      }
      await run('ssh-add', ['-q', `${operator.home}/.ssh/agent_rsa`], { env: { SSH_AUTH_SOCK: socket } })
      await operator.writeSsh('config', 'IdentitiesOnly yes\nIdentityFile ~/.ssh/none\n')
      await expectError(whoAmI('ops', { env: { SSH_AUTH_SOCK: socket } }), 'unauthorized', 'tried: no key')
      await operator.writeSsh('config', 'IdentitiesOnly yes\nIdentityFile ~/.ssh/agent_rsa\n')
      expect(await whoAmI('ops', { env: { SSH_AUTH_SOCK: socket } })).to.equal('ops')
    } finally {
      agent.kill()
    }
  })

  it('asks for a password, again after a wrong one, and not for a second connection', async () => {
    const secrets = createSecrets(prompter(['wrong', PASSWORD], operator.heard))
    expect(await whoAmI('ops', { secrets })).to.equal('ops')
    expect(await whoAmI('ops', { secrets })).to.equal('ops')
    expect(operator.heard).to.have.length(2)
    expect(operator.heard.join()).to.not.include(PASSWORD)
  })

  it('says what the server accepts and what was tried when a key is wrong', async () => {
    await operator.makeKey('id_ed25519')
    await expectError(
      whoAmI('ops'),
      'unauthorized',
      `${host.address} refuses the login of "ops" (it accepts: publickey,`,
      'tried: 1 of your keys',
      '~ops/.ssh/authorized_keys',
    )
  })

  it('shows the fingerprint of an unknown host, and adds its key to the known hosts as OpenSSH does', async () => {
    await host.authorize('ops', await operator.makeKey('id_ed25519'))
    await operator.writeSsh('known_hosts', '# without a line feed')
    await operator.writeSsh('config', 'HashKnownHosts yes\n')
    expect(await whoAmI('ops', { answers: [true] })).to.equal('ops')
    expect(operator.heard[0]).to.include(`fingerprint is ${host.fingerprint}`)
    expect(await operator.readSsh('known_hosts')).to.match(
      /^# without a line feed\n\|1\|\S+ ssh-ed25519 \S+\n$/,
    )
    expect(await whoAmI('ops')).to.equal('ops')
    const file = path.join(operator.home, '.ssh/known_hosts')
    expect((await run('ssh-keygen', ['-F', host.address, '-f', file])).stdout).to.include('found: line 2')
  })

  it('is not made to an unknown host when the answer is no, when nobody can be asked, or by another fingerprint', async () => {
    await host.authorize('ops', await operator.makeKey('id_ed25519'))
    await operator.writeSsh('known_hosts', '')
    await expectError(whoAmI('ops', { answers: [false] }), 'unauthorized', 'was not accepted')
    await expectError(whoAmI('ops'), 'unauthorized', 'nobody to ask', `--fingerprint ${host.fingerprint}`)
    const other = `SHA256:${'A'.repeat(43)}`
    await expectError(whoAmI('ops', { fingerprint: other }), 'unauthorized', `not ${other}`)
    expect(await operator.readSsh('known_hosts')).to.equal('')
    expect(await whoAmI('ops', { fingerprint: host.fingerprint })).to.equal('ops')
    expect(await operator.readSsh('known_hosts')).to.equal(host.knownHost)
  })

  it('refuses a changed host key, also with its fingerprint or without StrictHostKeyChecking, and sends no password', async () => {
    await operator.makeKey('other_host')
    const [type, key] = (await operator.readSsh('other_host.pub')).split(' ')
    await operator.writeSsh('known_hosts', `# one\n${host.address} ${type} ${key}\n`)
    await operator.writeSsh('config', 'StrictHostKeyChecking no\n')
    for (const fingerprint of [undefined, host.fingerprint])
      await expectError(
        whoAmI('ops', { answers: [], ...(fingerprint && { fingerprint }) }),
        'unauthorized',
        'REMOTE HOST IDENTIFICATION HAS CHANGED',
        host.fingerprint,
        'known_hosts, line 2',
        `-R '${host.address}'`,
      )
    expect(operator.heard).to.deep.equal([])
  })

  it('refuses a revoked host key', async () => {
    await operator.writeSsh('known_hosts', `@revoked * ${host.knownHost.split(' ').slice(1).join(' ')}`)
    await expectError(whoAmI('ops', { answers: [true] }), 'unauthorized', 'is revoked by')
  })

  it('says that certificate authorities of known_hosts are not enough', async () => {
    await operator.writeSsh('known_hosts', `@cert-authority ${host.knownHost}`)
    await expectError(whoAmI('ops'), 'unauthorized', 'Howdah verifies no host certificates')
  })

  it('goes through jump hosts, each with a login and a host key of its own', async () => {
    await host.authorize('ops', await operator.makeKey('id_ed25519'))
    expect(await whoAmI('ops', { jumps: [`hop@${jump.address}`], answers: [PASSWORD] })).to.equal('ops')
    expect(operator.heard).to.have.length(1)
    await operator.writeSsh('known_hosts', host.knownHost)
    await expectError(whoAmI('ops', { jumps: [`hop@${jump.address}`] }), 'unauthorized', jump.fingerprint)
  })

  it("understands OpenSSH's configuration: names, users, and jump hosts of jump hosts", async () => {
    const key = await operator.makeKey('fleet')
    for (const [where, user] of [
      [host, 'ops'],
      [jump, 'hop'],
    ] as const)
      await where.authorize(user, key)
    await operator.writeSsh('included', 'Host gate\n  User hop\n')
    await operator.writeSsh(
      'config',
      `Include included
Host gate
  HostName ${jump.address}
  ProxyJump first
Host first
  HostName ${jump.address}
  User hop
Host production
  HostName ${host.address}
  User ops
  ProxyJump gate
Match exec "touch ${operator.home}/was-run"
  User nobody
Host *
  IdentityFile ~/.ssh/fleet
`,
    )
    const connection = await operator.connect('production')
    const { stdout } = await runScript(connection, 'echo $SSH_CONNECTION; id -un', running)
    expect(stdout).to.match(new RegExp(`^${jump.address} \\d+ ${host.address} 22\nops\n$`))
    expect(operator.heard.filter((line) => line.includes('Match exec'))).to.not.be.empty
    expect((await run('ls', [operator.home])).stdout).to.equal('')
  })

  it('says what does not answer, and gives up after its deadline', async () => {
    await operator.writeSsh('config', 'UserKnownHostsFile /dev/null\n')
    await expectError(operator.connect(`ops@${host.address}:2222`), 'operation_failed', 'cannot be reached')
    await hosts.cut('machine', 'db')
    try {
      await expectError(
        operator.connect(`ops@${host.address}`, { deadlineMs: 300 }),
        'operation_failed',
        'did not answer within 0.3 s',
      )
    } finally {
      await hosts.restoreAll()
    }
  })

  it('is lost when the network is, and what it ran fails with that', async () => {
    await host.authorize('ops', await operator.makeKey('id_ed25519'))
    const connection = await operator.connect(`ops@${host.address}`, { keepaliveMs: 200 })
    const sleeping = runScript(connection, 'sleep 60', running)
    sleeping.catch(() => undefined)
    await hosts.cut('machine', 'db')
    try {
      await expectError(sleeping, 'operation_failed', `the connection to ops@${host.address} was lost`)
    } finally {
      await hosts.restoreAll()
    }
  })

  it('runs a script that is in no list of processes, and that reads what follows it', async () => {
    await host.authorize('ops', await operator.makeKey('id_ed25519'))
    const connection = await operator.connect(`ops@${host.address}`)
    const script = `IFS= read -r line; echo "it's $line!"; ps -o args= -p $$ -p $PPID; false`
    const { status, stdout } = await runScript(connection, script, {
      ...running,
      input: 'a "line" with $signs\n',
    })
    expect(stdout).to.include(`it's a "line" with $signs!`)
    expect(stdout).to.not.include('IFS=')
    expect(status).to.equal(1)
  })

  describe('becomes root', () => {
    const root = async (answers?: readonly string[], become?: 'sudo' | 'su'): Promise<RootShell> => {
      await host.authorize('ops', await operator.makeKey('id_ed25519'))
      const secrets = createSecrets(prompter(answers, operator.heard))
      const connection = await operator.connect(`ops@${host.address}`, { secrets })
      const note = (text: string): unknown => operator.heard.push(text)
      return rootShell(connection, { become, secrets, note, signal: running.signal })
    }
    const whoIs = async (shell: RootShell): Promise<string> =>
      (await shell.run('id -un; cat', { ...running, input: 'more' })).stdout

    it('by sudo without a password', async () => {
      await host.sudoers('ops ALL=(ALL) NOPASSWD: ALL\n')
      const shell = await root()
      expect([shell.how, await whoIs(shell)]).to.deep.equal(['sudo', 'root\nmore'])
    })

    it('by sudo with a password that is asked for once, after a lecture, and again after a wrong one', async () => {
      await host.sudoers('Defaults:ops lecture=always, timestamp_timeout=0\nops ALL=(ALL) ALL\n')
      const shell = await root(['wrong', PASSWORD])
      expect([await whoIs(shell), await whoIs(shell)]).to.deep.equal(['root\nmore', 'root\nmore'])
      expect(operator.heard).to.have.length(3)
    })

    it('by sudo with the password of the login, which is not asked for again, and which nobody else sees', async () => {
      await host.sudoers('Defaults:ops timestamp_timeout=0\nops ALL=(ALL) ALL\n')
      const secrets = createSecrets(prompter([PASSWORD], operator.heard))
      const connection = await operator.connect(`ops@${host.address}`, { secrets })
      const note = (text: string): unknown => operator.heard.push(text)
      const shell = await rootShell(connection, { become: undefined, secrets, note, signal: running.signal })
      const everything =
        'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"; find /tmp /var/tmp /var/log /home /root /run -type f -exec cat {} +'
      await shell.run(':', running)
      const { stdout } = await shell.run(everything, running)
      expect(stdout).to.include('sudo').and.to.include('ssh').and.to.not.include(PASSWORD)
      expect(operator.heard).to.have.length(1)
      expect(operator.heard.join()).to.not.include(PASSWORD)
    })

    it('not without a terminal when sudo asks for a password', async () => {
      await host.sudoers('ops ALL=(ALL) ALL\n')
      await expectError(root().then(whoIs), 'unauthorized', 'there is no terminal to ask on', 'NOPASSWD')
    })

    it('not by a password that is wrong three times', async () => {
      await host.sudoers('ops ALL=(ALL) ALL\n')
      await expectError(
        root(['a', 'b', 'c']).then(whoIs),
        'unauthorized',
        'the password of "ops" was refused',
      )
    })

    it('not when the user is not in sudoers', async () => {
      await host.sudoers('')
      await expectError(
        root([PASSWORD]).then(whoIs),
        'unauthorized',
        '"ops" may not become root',
        '--become su',
      )
    })

    it('not when sudo wants a terminal', async () => {
      await host.sudoers('Defaults:ops requiretty\nops ALL=(ALL) NOPASSWD: ALL\n')
      await expectError(root().then(whoIs), 'unauthorized', 'requiretty')
    })

    it('by su, with the password of root', async () => {
      await host.setPassword('root', 'of root')
      const shell = await root(['wrong', 'of root'], 'su')
      expect([shell.how, await whoIs(shell), await whoIs(shell)]).to.deep.equal([
        'su',
        'root\nmore',
        'root\nmore',
      ])
    })

    it('not where there is no sudo and nobody to ask', async () => {
      await host.shell('mount --bind /dev/null /usr/bin/sudo')
      try {
        await expectError(root(), 'unauthorized', 'sudo is not installed there')
      } finally {
        await host.shell('umount /usr/bin/sudo')
      }
    })
  })
})
