/**
 * Owns the usual way to read a remote directory: sshfs on loopback, from an sshd of the bench's own with its own keys and
 * configuration, on a port of its own. The machine's sshd and root's ~/.ssh are neither used nor changed.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../coordinator/cli/free-port.ts'
import type { Scope } from './scope.ts'

const run = promisify(execFile)
const SSHD = '/usr/sbin/sshd'
/**
 * The privilege separation directory that is compiled into Debian's sshd. The package's service makes it at every start.
 * It is kept, because another sshd may need it by then.
 */
const PRIVILEGE_SEPARATION = '/run/sshd'
const DEADLINE_MS = 20_000

export interface SshServer {
  /** Mounts a directory of this machine at `mountPoint`, as any user of sshfs would, readable by all users. */
  mount(directory: string, mountPoint: string): Promise<void>
  unmount(mountPoint: string): Promise<void>
}

/** Stopped, and its directory deleted, when the scope is closed. */
export async function startSshServer(scope: Scope): Promise<SshServer> {
  const directory = await mkdtemp('/var/tmp/howdah-bench-ssh-')
  scope.defer('the directory of sshd', () => rm(directory, { recursive: true, force: true }))
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
  await mkdir(PRIVILEGE_SEPARATION, { recursive: true, mode: 0o755 })
  const server = spawn(SSHD, ['-D', '-e', '-f', configuration], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  server.stderr.on('data', (chunk: Buffer) => {
    said += chunk
  })
  scope.defer('sshd', () => stop(server))
  await untilListening(port, server, () => said)

  return {
    async mount(source, mountPoint) {
      await mkdir(mountPoint, { recursive: true })
      await run(
        'sshfs',
        [
          ...[`root@127.0.0.1:${source}`, mountPoint, '-p', String(port), '-o', 'allow_other'],
          ...['-o', `IdentityFile=${userKey}`, '-o', 'IdentitiesOnly=yes', '-o', 'StrictHostKeyChecking=no'],
          ...['-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
          // The user's own configuration would be another measurement.
          ...['-F', '/dev/null'],
        ],
        { timeout: DEADLINE_MS },
      )
    },
    unmount,
  }
}

/** Detaches what is still in use. Nothing when it is no mount. */
export async function unmount(mountPoint: string): Promise<void> {
  const isMounted = await run('mountpoint', ['-q', mountPoint]).then(
    () => true,
    () => false,
  )
  if (!isMounted) return
  await run('umount', [mountPoint]).catch(() => run('umount', ['-l', mountPoint]))
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

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const exited = once(server, 'exit')
  server.kill('SIGTERM')
  await exited
}
