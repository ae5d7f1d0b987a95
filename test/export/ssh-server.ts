/** An sshd of the test's own for SFTP: own keys and configuration, a free port of loopback. Debian's is not touched. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../coordinator/cli/free-port.ts'

const run = promisify(execFile)
/** Where sshd locks up its unprivileged half; compiled into Debian's. It stays: another sshd may need it. */
const PRIVILEGE_SEPARATION = '/run/sshd'
const DEADLINE_MS = 20_000

export interface SshServer {
  readonly port: number
  readonly user: string
  readonly userKey: string
  /** Knows the server's key by host and port. */
  readonly knownHosts: string
  readonly fingerprint: string
  stop(): Promise<void>
}

/** Makes everything in `directory`. */
export async function startSshServer(directory: string): Promise<SshServer> {
  await mkdir(directory, { recursive: true })
  const [hostKey, userKey] = [path.join(directory, 'host_key'), path.join(directory, 'user_key')]
  for (const key of [hostKey, userKey]) await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
  const port = await freePort()
  const configuration = path.join(directory, 'sshd_config')
  await writeFile(
    configuration,
    `ListenAddress 127.0.0.1
Port ${port}
HostKey ${hostKey}
AuthorizedKeysFile ${userKey}.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
`,
  )
  const [type, key] = (await readFile(`${hostKey}.pub`, 'utf8')).split(' ')
  const knownHosts = path.join(directory, 'known_hosts')
  await writeFile(knownHosts, `# of the test\n[127.0.0.1]:${port} ${type} ${key}\n`)
  const { stdout } = await run('ssh-keygen', ['-l', '-f', `${hostKey}.pub`])
  await mkdir(PRIVILEGE_SEPARATION, { recursive: true, mode: 0o755 })
  const server = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', configuration], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  server.stderr.on('data', (chunk: Buffer) => {
    said += chunk
  })
  const stop = async (): Promise<void> => {
    await end(server)
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await untilListening(port, server, () => said)
  } catch (error) {
    await stop()
    throw error
  }
  const fingerprint = stdout.split(' ')[1] ?? ''
  return { port, user: 'root', userKey, knownHosts, fingerprint, stop }
}

async function untilListening(port: number, server: ChildProcess, said: () => string): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  for (;;) {
    if (server.exitCode !== null || Date.now() > deadline) throw new Error(`sshd does not listen: ${said()}`)
    const socket = connect(port, '127.0.0.1')
    const connected = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'close').then(() => false),
    ]).catch(() => false)
    socket.destroy()
    if (connected) return
    await sleep(20)
  }
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const exited = once(server, 'exit')
  server.kill('SIGTERM')
  await exited
}
