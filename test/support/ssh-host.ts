/**
 * Owns a server of its own on one machine, as an operator meets it: a network namespace, root directories that no other
 * host shares (/etc, /opt, /root, /home, /run, /tmp, /usr/local, /var/lib, /var/tmp), users, and Debian's sshd on port 22.
 * Takes root. Nothing of it is seen from outside: its mounts end with its last process.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, chmod, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { promisify } from 'node:util'
import type { Hosts } from './hosts.ts'
import { poll } from './poll.ts'
import { scratchDirectory } from './scratch.ts'

const run = promisify(execFile)
/** /etc is a copy; the others are empty at first. */
const OWN = [
  'etc',
  'opt',
  'root',
  'home',
  'run',
  'usr/local',
  'var/lib',
  'var/log',
  'var/spool',
  'var/tmp',
  'tmp',
] as const
const FIRST_UID = 4001
const DEADLINE_MS = 20_000

export interface SshHost {
  readonly name: string
  readonly address: string
  /** Where its own directories are on this machine: `path.join(root, 'etc/passwd')`. */
  readonly root: string
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
  /** The command that runs `command` there as root; its process is the command's own. */
  on(command: readonly string[]): readonly [string, ...string[]]
  /** Runs a shell command there as root. @returns what it prints */
  shell(command: string): Promise<string>
  /** kill -9 of the server's side of all connections; what was started by them goes on. */
  cutConnections(): Promise<void>
  /** Starts sshd again, also after its host was killed. Its directories are as they were. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface SshHostOptions {
  /** Directories of this machine that are there, too, below one of the host's own directories: path there → path here. */
  readonly shares?: Readonly<Record<string, string>>
  /** Further lines of sshd_config. */
  readonly configuration?: string
}

/** `name` is one of `hosts`. */
export async function startSshHost(
  hosts: Hosts,
  name: string,
  options: SshHostOptions = {},
): Promise<SshHost> {
  const root = await scratchDirectory('howdah-host-')
  const address = hosts.address(name)
  let server: Server | undefined
  let nextUid = FIRST_UID
  const etc = (file: string): string => path.join(root, 'etc', file)

  async function stop(): Promise<void> {
    await server?.end()
    await hosts.killAll(name)
    await rm(root, { recursive: true, force: true })
  }

  async function setPassword(user: string, password: string): Promise<void> {
    const { stdout } = await run('openssl', ['passwd', '-6', password])
    const lines = (await readFile(etc('shadow'), 'utf8')).split('\n')
    const others = lines.filter((line) => !line.startsWith(`${user}:`))
    await writeFile(etc('shadow'), `${user}:${stdout.trim()}:19000:0:99999:7:::\n${others.join('\n')}`, {
      mode: 0o640,
    })
  }

  try {
    await makeRoot(root)
    await writeFile(path.join(root, 'etc/ssh/sshd_config'), sshdConfiguration(address, options.configuration))
    server = await startServer(hosts, name, root, options.shares)
    const { stdout } = await run('ssh-keygen', ['-lf', etc('ssh/ssh_host_ed25519_key.pub')])
    const [type, key] = (await readFile(etc('ssh/ssh_host_ed25519_key.pub'), 'utf8')).split(' ')
    const inside = (): Server => {
      if (server === undefined) throw new Error(`${name} does not run`)
      return server
    }
    return {
      ...{ name, address, root, setPassword, stop },
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
      on: (command) => inside().on(command),
      async shell(command) {
        const [program, ...args] = inside().on(['/bin/sh', '-c', command])
        return (await run(program, args)).stdout
      },
      async cutConnections() {
        for (const pid of await hosts.processes(name)) {
          const title = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
          if (/^sshd: \w/.test(title)) process.kill(pid, 'SIGKILL')
        }
      },
      async restart() {
        await server?.end()
        server = await startServer(hosts, name, root, options.shares)
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function makeRoot(root: string): Promise<void> {
  await chmod(root, 0o755)
  for (const directory of OWN) await mkdir(path.join(root, directory), { recursive: true, mode: 0o755 })
  for (const open of ['tmp', 'var/tmp']) await chmod(path.join(root, open), 0o1777)
  await chmod(path.join(root, 'root'), 0o700)
  await cp('/etc', path.join(root, 'etc'), {
    recursive: true,
    preserveTimestamps: true,
    verbatimSymlinks: true,
  })
  for (const setuid of ['shadow', 'gshadow'])
    await chmod(path.join(root, 'etc', setuid), 0o640).catch(() => undefined)
  await mkdir(path.join(root, 'run/sshd'), { mode: 0o755 })
  await mkdir(path.join(root, 'run/lock'), { mode: 0o1777 })
  // A wrong password costs two seconds otherwise.
  await run('sed', ['-i', '/pam_unix/s/$/ nodelay/', path.join(root, 'etc/pam.d/common-auth')])
  await mkdir(path.join(root, 'etc/sudoers.d'), { recursive: true, mode: 0o750 })
  for (const kind of ['rsa', 'ecdsa', 'ed25519']) {
    const key = path.join(root, `etc/ssh/ssh_host_${kind}_key`)
    for (const file of [key, `${key}.pub`]) await rm(file, { force: true })
    if (kind === 'ed25519') await run('ssh-keygen', ['-q', '-t', kind, '-N', '', '-f', key])
  }
}

function sshdConfiguration(address: string, more = ''): string {
  return `${more}
ListenAddress ${address}
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

interface Server {
  on(command: readonly string[]): readonly [string, ...string[]]
  end(): Promise<void>
}

async function startServer(
  hosts: Hosts,
  name: string,
  root: string,
  shares: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const shared = Object.entries(shares).map(
    ([there, here]) => `mkdir -p ${root}${there} && mount --bind ${here} ${root}${there}`,
  )
  // The directory that holds the others may be in one of them, so that one comes last.
  const own = OWN.map((directory) => `mount --rbind ${root}/${directory} /${directory}`)
  const script = `${[...shared, ...own].join(' && ')} && exec /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config`
  const [program, ...args] = hosts.on(name, [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    '/bin/sh',
    '-c',
    script,
  ])
  const server = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' })
  let said = ''
  server.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-20_000)
  })
  const end = (): Promise<void> => endOf(server)
  try {
    await poll(
      () => (server.exitCode === null ? listens(hosts.address(name)) : Promise.reject(new Error(said))),
      {
        deadlineMs: DEADLINE_MS,
        everyMs: 20,
        failure: () => `sshd of ${name} does not listen: ${said}`,
      },
    )
  } catch (error) {
    await end()
    throw error
  }
  return {
    end,
    on: (command) => ['nsenter', `--target=${server.pid}`, '--mount', '--net', '--', ...command],
  }
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

async function endOf(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const exited = once(server, 'exit')
  server.kill('SIGKILL')
  await exited
}
