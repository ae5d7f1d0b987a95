/**
 * Owns a bare Debian system in a directory: what bin/prepare made, with the changes of one test laid over it. Takes root.
 * Nothing of it is seen from outside, and its mounts end with its last process.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { BUNDLES } from './bundle.ts'
import { endProcessesOf } from './host-root.ts'
import { IN_MEMORY } from './scratch.ts'

const run = promisify(execFile)
const ROOTS = '/var/cache/howdah-test'

export interface DebianRoot {
  /** Where this machine sees what was changed in it, while it is not removed. */
  readonly changes: string
  /** Runs a shell command in it as root; the bundles are in /mnt. @returns what it prints @throws Error with that when its status is not 0 */
  shell(command: string): Promise<string>
  /** What there is: for each file its kind, mode, owner and, as a hash or the target of a link, its content. */
  inventory(): Promise<string[]>
  remove(): Promise<void>
}

/**
 * @param release 12, or 13, which has systemd installed (it does not run)
 * @param bound files and directories of this machine that are in it too, and where
 */
export async function makeDebianRoot(
  release: 12 | 13,
  bound: Readonly<Record<string, string>> = {},
): Promise<DebianRoot> {
  const scratch = await mkdtemp(path.join(IN_MEMORY, 'howdah-debian-'))
  const root = `${scratch}/root`
  await mkdir(BUNDLES, { recursive: true })
  const script = [
    `mkdir ${scratch}/upper ${scratch}/work ${root}`,
    `mount -t overlay -o lowerdir=${ROOTS}/debian-${release},upperdir=${scratch}/upper,workdir=${scratch}/work overlay ${root}`,
    `mount -t proc proc ${root}/proc`,
    `mount --rbind /dev ${root}/dev`,
    `mount --bind ${BUNDLES} ${root}/mnt`,
    `mount -t tmpfs -o mode=755 tmpfs ${root}/run`,
    ...Object.entries(bound).map(([from, to]) => bind(from, root + to)),
    'echo ready',
    'exec sleep infinity',
  ].join(' && ')
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c', script], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await Promise.race([
    once(holder.stdout, 'data'),
    once(holder, 'exit').then(() =>
      Promise.reject(new Error(`Debian ${release} cannot be mounted; "sh bin/prepare test" makes it`)),
    ),
  ])

  async function shell(command: string): Promise<string> {
    const inside = ['nsenter', `--target=${holder.pid}`, '--mount', '--', 'chroot', root] as const
    const [program, ...args] = [
      ...inside,
      '/usr/bin/env',
      '-i',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
    ] as const
    const environment = ['DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C']
    const words = [...args, ...environment, '/bin/sh', '-c', command]
    const ran = run(program, words, { cwd: '/', maxBuffer: 64 * 1024 ** 2 })
    return ran.then(
      ({ stdout }) => stdout,
      (error: Error & { stdout: string }) => Promise.reject(new Error(`${error.message}\n${error.stdout}`)),
    )
  }

  return {
    changes: `${scratch}/upper`,
    shell,
    async inventory() {
      const attributes = await shell(`find / -xdev -printf '%p %y %m %u:%g %l\\n'`)
      const contents = await shell('find / -xdev -type f -print0 | xargs -0 md5sum')
      return [...attributes.split('\n'), ...contents.split('\n')].sort()
    },
    async remove() {
      await endProcessesOf(holder)
      await rm(scratch, { recursive: true, force: true })
    },
  }
}

function bind(from: string, to: string): string {
  const make = statSync(from).isDirectory() ? `mkdir -p ${to}` : `mkdir -p ${path.dirname(to)} && touch ${to}`
  return `${make} && mount --bind ${from} ${to}`
}

/** What dpkg and the programs that keep accounts write for themselves. */
const OF_OTHERS =
  /^\/(var\/lib\/dpkg\/|var\/log\/|var\/cache\/|etc\/(passwd|group|g?shadow|sub[ug]id)-|etc\/\.pwd\.lock)/
const ACCOUNTS = ['passwd', 'group', 'shadow', 'gshadow', 'subuid', 'subgid'].map((name) => `/etc/${name}`)
const CONTENT = /^[0-9a-f]{32} {2}/

/** How two inventories differ; the content of the files with accounts is left out. */
export function inventoryDifference(before: readonly string[], after: readonly string[]): string[] {
  const lacking = (from: readonly string[], what: readonly string[]) => {
    const known = new Set(what)
    return from.filter((line) => !known.has(line))
  }
  const isOurs = (line: string) => {
    const file = line.replace(CONTENT, '')
    return !OF_OTHERS.test(file) && !(CONTENT.test(line) && ACCOUNTS.includes(file))
  }
  return [
    ...lacking(after, before).map((line) => `new: ${line}`),
    ...lacking(before, after).map((line) => `gone: ${line}`),
  ].filter((line) => isOurs(line.replace(/^\w+: /, '')))
}
