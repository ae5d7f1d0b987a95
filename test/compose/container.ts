/**
 * Owns one container without an engine: a process in namespaces of its own (mounts, processes, host name, IPC, and a network
 * that is given), in a root of layers, as a user with the capabilities that are given. Takes root. What Docker adds is not
 * here: the seccomp filter, AppArmor's profile, control groups, and its list of devices beyond which files are in /dev.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import type { Layers } from '../support/layers.ts'
import { poll } from '../support/poll.ts'

const run = promisify(execFile)
const START_MS = 10_000
/** Of what it printed, for messages. */
const KEPT_CHARACTERS = 20_000
/** Docker's, for a container of which nothing is said; docs.docker.com/engine/containers/run. */
const DEFAULT_CAPABILITIES = [
  ...['chown', 'dac_override', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap'],
  ...['net_bind_service', 'net_raw', 'sys_chroot', 'mknod', 'audit_write', 'setfcap'],
]
const DEFAULT_DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'].map((name) => `/dev/${name}`)
/** Of the Debian package tini, which Docker brings along for `init: true`. */
const INIT = '/usr/bin/tini-static'

export interface Volume {
  readonly source: string
  readonly target: string
  readonly readOnly: boolean
}

export interface ContainerOptions {
  /** For what its root writes; made here, and to be removed by the caller. */
  readonly directory: string
  readonly layers: Layers
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly workingDirectory: string
  /** Default: root. */
  readonly user?: string | undefined
  readonly capDrop?: readonly string[] | undefined
  readonly capAdd?: readonly string[] | undefined
  readonly noNewPrivileges: boolean
  readonly readOnly: boolean
  /** Whether a small init is process 1, which passes signals on and reaps orphans. */
  readonly init: boolean
  readonly tmpfs: readonly string[]
  readonly devices: readonly string[]
  readonly volumes: readonly Volume[]
  /** As for mount(8). Default, as Docker's: 64m. */
  readonly shmSize?: string | undefined
  readonly hostname: string
  /** Content of /etc/hosts. */
  readonly hosts: string
  /** The command that runs a command in its network. */
  readonly network: (command: readonly string[]) => readonly string[]
}

export interface Container {
  /** What `docker exec` does: the same user, rights, environment and working directory. @throws Error with stderr when its status is not 0 */
  exec(command: readonly string[], options?: { timeoutMs?: number }): Promise<string>
  /** /proc/PID/status of its process 1. */
  status(): Promise<string>
  /** The end of what it printed. */
  output(): string
  /** Its status, when it has ended by itself or was stopped; 128 + N: by signal N. */
  readonly ended: Promise<number>
  /** SIGTERM, and SIGKILL when it has not ended in that time. @returns its status */
  stop(graceMs: number): Promise<number>
}

/** @throws Error with what went wrong when it cannot be set up; a command that ends at once is no error */
export async function startContainer(options: ContainerOptions): Promise<Container> {
  const { directory, network, environment, workingDirectory, command, init } = options
  for (const name of ['upper', 'work', 'root'])
    await mkdir(path.join(directory, name), { recursive: true, mode: 0o755 })
  const words = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
  const within = [...privileges(options), 'env', '-i', `--chdir=${workingDirectory}`, ...words]
  const main = [...within, ...(init ? ['/usr/sbin/docker-init', '--'] : []), ...command]
  const [program = '', ...args] = network([
    ...['unshare', '--mount', '--propagation=private', '--uts', '--ipc', '--pid', '--fork', '--kill-child'],
    ...['/bin/sh', '-euc', `${setup(options)}\nexec ${main.map(quote).join(' ')}`],
  ])
  const holder = spawn(program, args, { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] })
  let printed = ''
  for (const stream of [holder.stdout, holder.stderr])
    stream.on('data', (chunk: Buffer) => {
      printed = (printed + chunk).slice(-KEPT_CHARACTERS)
    })
  const ended = once(holder, 'close').then(() => holder.exitCode ?? 128 + 9)
  const namespace = (name: string) => `/proc/${holder.pid}/ns/${name}`
  const first = await poll(
    async () => {
      if (printed.includes(READY)) return (await childOf(holder.pid ?? 0)) ?? 0
      if (holder.exitCode !== null) throw new Error(`${options.hostname} cannot be set up: ${printed}`)
      return undefined
    },
    { deadlineMs: START_MS, everyMs: 20, failure: () => `${options.hostname} is not set up: ${printed}` },
  ).catch((error: unknown) => {
    holder.kill('SIGKILL')
    throw error
  })

  return {
    ended,
    output: () => printed.replace(`${READY}\n`, ''),
    status: () => readFile(`/proc/${first}/status`, 'utf8'),
    async exec(inner, { timeoutMs = 60_000 } = {}) {
      const [nsenter = '', ...rest] = [
        'nsenter',
        ...['mnt', 'uts', 'ipc', 'net'].map(
          (name) => `--${name === 'mnt' ? 'mount' : name}=${namespace(name)}`,
        ),
        `--pid=${namespace('pid_for_children')}`,
        ...['--', ...within, ...inner],
      ]
      const { stdout } = await run(nsenter, rest, { cwd: '/', timeout: timeoutMs, killSignal: 'SIGKILL' })
      return stdout
    },
    async stop(graceMs) {
      if (holder.exitCode === null && first !== 0) {
        signal(first, 'SIGTERM')
        const timer = setTimeout(() => signal(first, 'SIGKILL'), graceMs)
        await ended
        clearTimeout(timer)
      }
      return ended
    },
  }
}

/** Printed when all but the command itself is done. */
const READY = 'the container is set up'

/** What Docker does before it starts the command; the shell is process 1 of the new namespaces. */
function setup(options: ContainerOptions): string {
  const { directory, layers, tmpfs, volumes, hostname, hosts, shmSize = '64m' } = options
  const root = path.join(directory, 'root')
  const devices = [...DEFAULT_DEVICES, ...options.devices]
  const file = (target: string) => `mkdir -p ${path.dirname(root + target)} && touch ${root}${target}`
  return [
    `mount -t overlay overlay -o lowerdir=${layers.join(':')},upperdir=${directory}/upper,workdir=${directory}/work ${root}`,
    `mkdir -p ${root}/proc ${root}/sys ${root}/dev ${root}/.outside`,
    `mount -t proc proc ${root}/proc`,
    `mount --bind ${root}/proc/sys ${root}/proc/sys && mount -o remount,bind,ro ${root}/proc/sys`,
    `mount -t sysfs -o ro sysfs ${root}/sys`,
    `mount -t tmpfs -o mode=755,nosuid tmpfs ${root}/dev`,
    ...devices.map((device) => `${file(device)} && mount --bind ${device} ${root}${device}`),
    `ln -s /proc/self/fd ${root}/dev/fd && ln -s pts/ptmx ${root}/dev/ptmx`,
    ...['stdin', 'stdout', 'stderr'].map((name, fd) => `ln -s /proc/self/fd/${fd} ${root}/dev/${name}`),
    `mkdir ${root}/dev/pts ${root}/dev/shm`,
    `mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts ${root}/dev/pts`,
    `mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=${shmSize} tmpfs ${root}/dev/shm`,
    ...tmpfs.map(
      (target) =>
        `mkdir -p ${root}${target} && mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs ${root}${target}`,
    ),
    ...volumes.flatMap((volume) => mountVolume(volume, root)),
    `printf %s ${quote(hosts)} >${root}/etc/hosts && echo ${hostname} >${root}/etc/hostname && hostname ${hostname}`,
    ...(options.init
      ? [`touch ${root}/usr/sbin/docker-init && mount --bind ${INIT} ${root}/usr/sbin/docker-init`]
      : []),
    `cd ${root} && pivot_root . .outside && umount -l /.outside && rmdir /.outside`,
    ...(options.readOnly ? ['mount -o remount,bind,ro /'] : []),
    `echo '${READY}'`,
  ].join('\n')
}

/** An empty volume gets owner and mode of the directory of the image, as Docker does; not its content, which ours do not have. */
function mountVolume({ source, target, readOnly }: Volume, root: string): string[] {
  const there = root + target
  return [
    `if [ -d ${source} ]; then`,
    `  if [ -d ${there} ] && [ -z "$(ls -A ${source})" ]; then chown --reference=${there} ${source}; chmod --reference=${there} ${source}; fi`,
    `  mkdir -p ${there}`,
    `else mkdir -p ${path.dirname(there)} && touch ${there}; fi`,
    `mount --bind ${source} ${there}`,
    ...(readOnly ? [`mount -o remount,bind,ro ${there}`] : []),
  ]
}

function privileges({
  user = 'root',
  capDrop = [],
  capAdd = [],
  noNewPrivileges,
}: ContainerOptions): string[] {
  const base = capDrop.includes('ALL') ? [] : DEFAULT_CAPABILITIES
  const others = capDrop.filter((name) => name !== 'ALL')
  if (others.length > 0) throw new Error(`only ALL is dropped here, not ${others}`)
  const capabilities = [...base, ...capAdd.map((name) => name.toLowerCase())]
  return [
    ...['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups', '--inh-caps=-all'],
    `--bounding-set=${['-all', ...capabilities.map((name) => `+${name}`)].join(',')}`,
    ...(noNewPrivileges ? ['--no-new-privs'] : []),
  ]
}

async function childOf(parent: number): Promise<number | undefined> {
  const { stdout } = await run('pgrep', ['--parent', String(parent)]).catch(() => ({ stdout: '' }))
  return stdout === '' ? undefined : Number(stdout.split('\n')[0])
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It has ended already.
  }
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
