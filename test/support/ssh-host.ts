/**
 * Owns a server as an operator meets it: a host of hosts.ts with a root of its own (host-root.ts), users, and Debian's sshd on
 * port 22. Takes root.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { promisify } from 'node:util'
import { type HostRoot, type HostRootOptions, makeHostRoot } from './host-root.ts'
import type { Hosts } from './hosts.ts'
import { poll } from './poll.ts'

const run = promisify(execFile)
const FIRST_UID = 4001
const DEADLINE_MS = 20_000
const SSHD = ['/usr/sbin/sshd', '-D', '-e', '-f', '/etc/ssh/sshd_config']

export interface SshHost extends Omit<HostRoot, 'remove'> {
  readonly name: string
  readonly address: string
  /** As `SHA256:…`. */
  readonly fingerprint: string
  /** A line of known_hosts. */
  readonly knownHost: string
  /** Makes a user with a home directory. The password is for logins and sudo; undefined: none is accepted. */
  addUser(name: string, password?: string): Promise<void>
  setPassword(user: string, password: string): Promise<void>
  /** Lets a public key, as in a .pub file, log in. */
  authorize(user: string, publicKey: string): Promise<void>
  /** Rules of sudoers(5) on this host. */
  sudoers(text: string): Promise<void>
  /** kill -9 of the server's side of all connections; what was started by them goes on. */
  cutConnections(): Promise<void>
  /** Starts sshd again after `killProcesses`. */
  start(): Promise<void>
  stop(): Promise<void>
}

export type SshHostOptions = Pick<HostRootOptions, 'shares'>

/** `name` is one of `hosts`. */
export async function startSshHost(
  hosts: Hosts,
  name: string,
  options: SshHostOptions = {},
): Promise<SshHost> {
  const own = ['root', 'home', 'var/spool']
  const shares = options.shares ?? {}
  const host = await makeHostRoot((command) => hosts.on(name, command), { own, shares })
  const { root } = host
  const address = hosts.address(name)
  let nextUid = FIRST_UID
  const etc = (file: string): string => path.join(root, 'etc', file)

  async function stop(): Promise<void> {
    await host.remove()
    // What has a mount namespace of its own, as published instances.
    await hosts.killAll(name)
  }

  async function setPassword(user: string, password: string): Promise<void> {
    const { stdout } = await run('openssl', ['passwd', '-6', password])
    const lines = (await readFile(etc('shadow'), 'utf8')).split('\n')
    const others = lines.filter((line) => !line.startsWith(`${user}:`))
    await writeFile(etc('shadow'), `${user}:${stdout.trim()}:19000:0:99999:7:::\n${others.join('\n')}`, {
      mode: 0o640,
    })
  }

  const start = (): Promise<void> => startServer(host.on(SSHD), address)

  try {
    await prepare(root)
    await writeFile(etc('ssh/sshd_config'), sshdConfiguration(address))
    await start()
    const { stdout } = await run('ssh-keygen', ['-lf', etc('ssh/ssh_host_ed25519_key.pub')])
    const [type, key] = (await readFile(etc('ssh/ssh_host_ed25519_key.pub'), 'utf8')).split(' ')
    return {
      ...host,
      ...{ name, address, setPassword, start, stop },
      fingerprint: stdout.split(' ')[1] ?? '',
      knownHost: `${address} ${type} ${key}\n`,
      async addUser(user, password) {
        const uid = nextUid++
        await appendFile(etc('passwd'), `${user}:x:${uid}:${uid}::/home/${user}:/bin/bash\n`)
        await appendFile(etc('group'), `${user}:x:${uid}:\n`)
        await appendFile(etc('shadow'), `${user}:*:19000:0:99999:7:::\n`)
        await mkdir(path.join(root, 'home', user), { mode: 0o700 })
        await run('chown', ['-R', `${uid}:${uid}`, path.join(root, 'home', user)])
        if (password !== undefined) await setPassword(user, password)
      },
      async authorize(user, publicKey) {
        const home = path.join(root, user === 'root' ? 'root' : `home/${user}`)
        await mkdir(`${home}/.ssh`, { recursive: true, mode: 0o700 })
        await appendFile(`${home}/.ssh/authorized_keys`, `${publicKey.trim()}\n`, { mode: 0o600 })
        await run('chown', ['-R', '--reference', home, `${home}/.ssh`])
      },
      async sudoers(text) {
        await writeFile(etc('sudoers.d/howdah-test'), text, { mode: 0o440 })
      },
      async cutConnections() {
        for (const pid of await hosts.processes(name)) {
          const title = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
          if (/^sshd: \w/.test(title)) process.kill(pid, 'SIGKILL')
        }
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function prepare(root: string): Promise<void> {
  await chmod(path.join(root, 'root'), 0o700)
  await mkdir(path.join(root, 'run/sshd'), { mode: 0o755 })
  await mkdir(path.join(root, 'run/lock'), { mode: 0o1777 })
  // A wrong password costs two seconds otherwise.
  await run('sed', ['-i', '/pam_unix/s/$/ nodelay/', path.join(root, 'etc/pam.d/common-auth')])
  await mkdir(path.join(root, 'etc/sudoers.d'), { recursive: true, mode: 0o750 })
  const key = path.join(root, 'etc/ssh/ssh_host_ed25519_key')
  for (const file of [key, `${key}.pub`]) await rm(file, { force: true })
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
}

function sshdConfiguration(address: string): string {
  return `ListenAddress ${address}
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile none
UsePAM yes
PasswordAuthentication yes
KbdInteractiveAuthentication yes
PermitRootLogin prohibit-password
PrintMotd no
LogLevel VERBOSE
`
}

async function startServer(command: readonly [string, ...string[]], address: string): Promise<void> {
  const [program, ...args] = command
  const server = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' })
  let said = ''
  server.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-20_000)
  })
  await poll(() => (server.exitCode === null ? listens(address) : Promise.reject(new Error(said))), {
    deadlineMs: DEADLINE_MS,
    everyMs: 20,
    failure: () => `sshd at ${address} does not listen: ${said}`,
  })
}

async function listens(address: string): Promise<true | undefined> {
  const socket = connect(22, address)
  const connected = await Promise.race([
    once(socket, 'connect').then(() => true as const),
    once(socket, 'close').then(() => undefined),
  ]).catch(() => undefined)
  socket.destroy()
  return connected
}
