/**
 * The control group of a session's server: the kernel's own list of all its processes, whatever their names or parents.
 * Source: Documentation/admin-guide/cgroup-v2.rst.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { hostMounts, isWithin } from './host-mounts.ts'

export interface Cgroup {
  readonly directory: string
  /** Relative to /sys/fs/cgroup, as nft(8) expects it. */
  readonly nftPath: string
  /** Depth below the root of its hierarchy. */
  readonly level: number
}

const SYS = '/sys/fs/cgroup'
const KILL_MS = 5_000

/** The control group of this process; undefined: no version 2 hierarchy is mounted where nft(8) expects it. */
export function ownCgroup(): Omit<Cgroup, 'nftPath'> | undefined {
  const root = hostMounts().findLast(
    ({ type, mountPoint }) => type === 'cgroup2' && isWithin(mountPoint, SYS),
  )?.mountPoint
  const own = /^0::(\/.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1]
  if (root === undefined || own === undefined || own.includes('..')) return undefined
  const parts = own.split('/').filter((part) => part !== '')
  return { directory: [root, ...parts].join('/'), level: parts.length }
}

/** Creates the named group below our own, unless it exists. @throws the error of the file system */
export function makeCgroup(name: string, own: Omit<Cgroup, 'nftPath'>): Cgroup {
  const directory = `${own.directory}/${name}`
  mkdirSync(directory, { recursive: true })
  return { directory, nftPath: directory.slice(SYS.length + 1), level: own.level + 1 }
}

/** Kills the processes of the group without waiting for their end; `removeCgroup` waits. */
export function killCgroup(directory: string): void {
  if (!existsSync(directory)) return
  const kill = `${directory}/cgroup.kill`
  if (existsSync(kill)) {
    writeFileSync(kill, '1')
    return
  }
  // Before Linux 5.14. A process forked meanwhile is killed by the next call.
  for (const line of readFileSync(`${directory}/cgroup.procs`, 'utf8').split('\n')) {
    if (line !== '') killProcess(Number(line))
  }
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Kills the remaining processes of the group and removes it. @returns whether it is gone */
export async function removeCgroup(directory: string): Promise<boolean> {
  const deadline = performance.now() + KILL_MS
  for (;;) {
    try {
      killCgroup(directory)
      rmdirSync(directory)
      return true
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return true
      if (code !== 'EBUSY' || performance.now() > deadline) return false
    }
    await delay(5)
  }
}
