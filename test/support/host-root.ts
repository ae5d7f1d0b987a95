/**
 * Owns the directories of a host that shares this machine's programs but none of its state: /etc (a copy), /opt, /run,
 * /tmp, /usr/local, /var/lib, /var/log and /var/tmp are its own, in a mount namespace. Takes root. Nothing of it is seen
 * from outside, and its mounts end with its last process.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { appendFile, chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { poll } from './poll.ts'

const run = promisify(execFile)
/** /tmp last: the directories themselves may be in it. */
const OWN = ['etc', 'opt', 'run', 'usr/local', 'var/lib', 'var/log', 'var/tmp', 'tmp'] as const
const DEADLINE_MS = 20_000
/** System users have numbers of their own on each host, below that of `nobody`. */
const [FIRST_UID, UIDS] = [10_000, 20]

export interface HostRoot {
  /** Where its own directories are on this machine: `path.join(root, 'etc/passwd')`. */
  readonly root: string
  /** The command that runs `command` there; its process is the command's own. */
  on(command: readonly string[]): readonly [string, ...string[]]
  /** Runs a shell command there as root. @returns what it prints @throws Error with stderr when its status is not 0 */
  shell(command: string): Promise<string>
  /** kill -9 of what runs there, as in a power cut; its directories stay. */
  killProcesses(): Promise<void>
  /** Kills the processes that are left there, and removes it. */
  remove(): Promise<void>
}

export interface HostRootOptions {
  /** Further directories of its own, as `home`. */
  readonly own?: readonly string[]
  /** Directories of this machine that are there, too, below one of its own: path there → path here. */
  readonly shares?: Readonly<Record<string, string>>
}

/** @param on the command that runs a command in the host's network, `hosts.on` of hosts.ts */
export async function makeHostRoot(
  on: (command: readonly string[]) => readonly [string, ...string[]] = (command) =>
    command as [string, ...string[]],
  options: HostRootOptions = {},
): Promise<HostRoot> {
  const directories = [...(options.own ?? []), ...OWN]
  const root = await mkdtemp(path.join(tmpdir(), 'howdah-host-'))
  await chmod(root, 0o755)
  for (const directory of directories)
    await mkdir(path.join(root, directory), { recursive: true, mode: 0o755 })
  await mkdir(path.join(root, 'usr/local/bin'))
  for (const open of ['tmp', 'var/tmp']) await chmod(path.join(root, open), 0o1777)
  await run('cp', ['-a', '/etc/.', path.join(root, 'etc')])
  // The hosts share process ids: userdel(8) would find the processes of another host's user of the same number.
  const uid = FIRST_UID + UIDS * randomInt(2_500)
  const range = `SYS_UID_MIN ${uid}\nSYS_UID_MAX ${uid + UIDS - 1}\n`
  await appendFile(path.join(root, 'etc/login.defs'), range)
  const shares = Object.entries(options.shares ?? {}).map(
    ([there, here]) => `mkdir -p ${root}${there} && mount --bind ${here} ${root}${there}`,
  )
  const own = directories.map((directory) => `mount --rbind ${root}/${directory} /${directory}`)
  const mounts = [...shares, ...own].join(' && ')
  const [program, ...args] = on([
    ...['unshare', '--mount', '--propagation', 'private', '/bin/sh', '-c'],
    `${mounts} && echo ready && exec sleep infinity`,
  ])
  const holder = spawn(program, args, { cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] })
  await Promise.race([
    once(holder.stdout, 'data'),
    once(holder, 'exit').then(() => Promise.reject(new Error('the host cannot be made'))),
  ])
  const namespaces = ['nsenter', `--target=${holder.pid}`, '--mount', '--net', '--'] as const
  return {
    root,
    on: (command) => [...namespaces, ...command],
    async shell(command) {
      const [nsenter, ...words] = namespaces
      const { stdout } = await run(nsenter, [...words, '/bin/sh', '-c', command], { cwd: '/' })
      return stdout
    },
    killProcesses: () => killBeside(holder),
    async remove() {
      await endProcessesOf(holder)
      await rm(root, { recursive: true, force: true })
    },
  }
}

/** Processes in the namespace of the holder, by /proc. */
function processesBeside(holder: ChildProcess): number[] {
  const namespace = namespaceOf(String(holder.pid))
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(holder.pid) && namespaceOf(name) === namespace)
    .map(Number)
}

function namespaceOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch {
    return undefined
  }
}

/** Kills what is in the mount namespace of a process, and that process. */
export async function endProcessesOf(holder: ChildProcess): Promise<void> {
  await killBeside(holder)
  const exited = once(holder, 'exit')
  holder.kill('SIGKILL')
  await exited
}

async function killBeside(holder: ChildProcess): Promise<void> {
  await poll(
    async () => {
      const others = processesBeside(holder)
      for (const pid of others) kill(pid)
      return others.length === 0 ? true : undefined
    },
    { deadlineMs: DEADLINE_MS, everyMs: 50, failure: () => 'processes of the host do not end' },
  )
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
