/**
 * Owns a Debian 13 in namespaces of its own (mounts, processes, network, host name), with this checkout in it. What is
 * written in it is in memory, and it ends with all of its processes, mounts and files when this process ends, also by
 * kill -9. Takes root.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, realpath } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import path from 'node:path'
import type { Layers } from '../support/layers.ts'

const CHECKOUT = path.join(import.meta.dirname, '../..')
/** Of the servers of other majors, which tests use there, too. */
const CACHE = '/var/cache/howdah-test'
/** Where the checkout is in it, which every account can read, and the fixtures beside it. */
const THERE = '/srv/howdah'
const FIXTURES = 'shared/fixtures'
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty']
/** Of the Debian package tini: process 1, which reaps orphans. */
const INIT = '/usr/bin/tini-static'

export interface DebianSystem {
  /** What there is of it outside as long as it lives: an empty directory, and a control group with all of its processes. */
  readonly traces: { readonly directory: string; readonly group: string }
  /** Runs a command in the checkout there as root, with the output of this process. @returns its status; 128 + N: by signal N */
  run(command: readonly string[]): Promise<number>
  /** The content of a file there; undefined: there is none. */
  read(file: string): Promise<string | undefined>
  /** Kills what runs in it; nothing of it is left. */
  remove(): Promise<void>
}

/** @throws Error with what went wrong */
export async function startDebianSystem(layers: Layers): Promise<DebianSystem> {
  const directory = await mkdtemp(path.join(tmpdir(), 'howdah-debian-13-'))
  const group = path.join(await unifiedCgroups(), path.basename(directory))
  // In a session of its own, it removes the rest also when this process and its group are killed.
  const holder = spawn('/bin/sh', ['-euc', await holderScript(directory, group, layers)], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let printed = ''
  holder.stderr.on('data', (chunk: Buffer) => {
    printed += chunk
  })
  holder.stdin.on('error', () => {})
  const closed = once(holder, 'close')
  const [ready] = (await Promise.race([
    once(holder.stdout, 'data'),
    closed.then(() => Promise.reject(new Error(`Debian 13 cannot be set up: ${printed}`))),
  ])) as [Buffer]
  /** Its process 1, as seen from here. */
  const init = Number(ready.toString().trim())
  const enter = ['mount', 'uts', 'ipc', 'net', 'pid', 'cgroup'].map((name) => `--${name}`)

  return {
    traces: { directory, group },
    async run(command) {
      const words = ['env', '-i', `--chdir=${THERE}`, ...environment(), ...command]
      const script = `echo $$ >${group}/cgroup.procs && exec nsenter --target=${init} ${enter.join(' ')} -- "$@"`
      return statusOf(
        spawn('/bin/sh', ['-c', script, 'sh', ...words], {
          cwd: '/',
          stdio: ['ignore', 'inherit', 'inherit'],
        }),
      )
    },
    read: (file) => readFile(`/proc/${init}/root${file}`, 'utf8').catch(() => undefined),
    async remove() {
      holder.stdin.end()
      await closed
    },
  }
}

async function statusOf(child: ChildProcess): Promise<number> {
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return status ?? 128 + constants.signals[signal ?? 'SIGKILL']
}

/** Where the hierarchy of version 2 is mounted here. */
async function unifiedCgroups(): Promise<string> {
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  const [, mounted] = / (\/sys\/fs\/cgroup\S*) cgroup2 /.exec(mounts) ?? []
  if (mounted === undefined) throw new Error('no control groups of version 2 are mounted in /sys/fs/cgroup')
  return mounted
}

function environment(): string[] {
  const passed = ['CI', 'TERM', 'COLUMNS'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [`${name}=${value}`]
  })
  return [
    `PATH=${THERE}/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    ...['HOME=/root', 'LANG=C.UTF-8', ...passed],
  ]
}

/** Waits in a control group of the system's own until that has ended, and removes what is left outside. */
async function holderScript(directory: string, group: string, layers: Layers): Promise<string> {
  const namespaces = ['mount', 'uts', 'ipc', 'net', 'cgroup', 'pid'].map((name) => `--${name}`).join(' ')
  return [
    `setup=$(cat <<'END'\n${await setupScript(directory, layers)}\nEND\n)`,
    `mkdir ${group}`,
    `echo $$ >${group}/cgroup.procs`,
    `status=0; unshare ${namespaces} --propagation=private --fork --kill-child /bin/sh -euc "$setup" || status=$?`,
    `echo $$ >${path.dirname(group)}/cgroup.procs`,
    `find ${group} -depth -type d -exec rmdir '{}' ';'`,
    `rmdir ${directory}`,
    'exit $status',
  ].join('\n')
}

/** The shell is process 1 of the new namespaces; it becomes an init that ends when the standard input is closed. */
async function setupScript(directory: string, layers: Layers): Promise<string> {
  const root = `${directory}/root`
  const packages = await realpath(path.join(CHECKOUT, 'node_modules'))
  const fixtures = path.join(CHECKOUT, '..', FIXTURES)
  const fixturesThere = path.join(root, THERE, '..', FIXTURES)
  const writable = (name: string, lower: string, target: string) => [
    `mkdir -p ${directory}/${name}/upper ${directory}/${name}/work ${target}`,
    `mount -t overlay overlay -o lowerdir=${lower},upperdir=${directory}/${name}/upper,workdir=${directory}/${name}/work ${target}`,
  ]
  return [
    // Its number in the namespace outside, which the /proc of that tells.
    'read -r number rest </proc/self/stat',
    `mount -t tmpfs -o mode=755 tmpfs ${directory}`,
    ...writable('system', layers.join(':'), root),
    `mount -t proc proc ${root}/proc`,
    `mount -t sysfs sysfs ${root}/sys`,
    `mount -t cgroup2 cgroup2 ${root}/sys/fs/cgroup`,
    `mount -t tmpfs -o mode=755,nosuid tmpfs ${root}/dev`,
    ...DEVICES.map((name) => `touch ${root}/dev/${name} && mount --bind /dev/${name} ${root}/dev/${name}`),
    `mknod -m 666 ${root}/dev/fuse c 10 229`,
    `ln -s /proc/self/fd ${root}/dev/fd && ln -s pts/ptmx ${root}/dev/ptmx`,
    ...['stdin', 'stdout', 'stderr'].map((name, fd) => `ln -s /proc/self/fd/${fd} ${root}/dev/${name}`),
    `mkdir ${root}/dev/pts ${root}/dev/shm`,
    `mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts ${root}/dev/pts`,
    // Not /var/tmp: of write caches on tmpfs sessions are warned.
    ...['dev/shm', 'tmp'].map((target) => `mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs ${root}/${target}`),
    `mount -t tmpfs -o mode=755 tmpfs ${root}/run`,
    `mkdir -p ${root}${CACHE} && mount --bind ${CACHE} ${root}${CACHE}`,
    `mount -o remount,bind,ro ${root}${CACHE}`,
    // A copy: files may be edited while tests run.
    `mkdir ${root}${THERE}`,
    `tar -C ${CHECKOUT} --exclude=./.git --exclude=./node_modules --exclude=./dist -c . | tar -C ${root}${THERE} --no-same-owner -x`,
    `mkdir -p ${fixturesThere}`,
    ...(existsSync(fixtures) ? [`mount --bind -o ro ${await realpath(fixtures)} ${fixturesThere}`] : []),
    ...writable('packages', packages, `${root}${THERE}/node_modules`),
    `touch ${root}/usr/sbin/docker-init && mount --bind ${INIT} ${root}/usr/sbin/docker-init`,
    `printf '127.0.0.1 localhost debian13\\n::1 localhost\\n' >${root}/etc/hosts`,
    `echo debian13 >${root}/etc/hostname && hostname debian13 && ip link set lo up`,
    `mkdir ${root}/.outside && cd ${root} && pivot_root . .outside && umount -l /.outside && rmdir /.outside`,
    'echo $number',
    'exec docker-init -- cat >/dev/null',
  ].join('\n')
}
