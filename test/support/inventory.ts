/**
 * Owns the inventory of what Howdah and the programs that it starts can leave on a machine: mounts, processes, networks,
 * and entries of the temporary directories. Reads only; ends and removes nothing.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ownCgroup } from '../../agents/target/isolation/cgroup.ts'
import { IN_MEMORY } from './scratch.ts'

/** A key that stays the same while the thing exists → a description by which a person finds it. */
export type Inventory = ReadonlyMap<string, string>

export interface MachineProcess {
  readonly pid: number
  /** Distinguishes two processes with one pid: clock ticks from boot to start. */
  readonly startTicks: string
  readonly command: readonly string[]
  /** `NAME=value` each; empty where it may not be read. */
  readonly environment: readonly string[]
}

const SERVERS =
  /^(postgres|pgbackrest|pg_ctl|pgbench|beam\.smp|erl_child_setup|epmd|rabbitmq-server|fusermount3?)$/
const MOUNT_TITLE = /^howdah mount\b/
const HOWDAH_SCRIPT = /(^|\/)(bin\/howdah|(agents|coordinator)\/[^ ]*main\.ts)$/

/** All processes that are alive, without those that end meanwhile and zombies. */
export function processes(): MachineProcess[] {
  const found: MachineProcess[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      // proc(5): the fields after the parenthesised name; state is the first, the start time the 20th.
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (fields[0] === 'Z' || fields[0] === 'X') continue
      found.push({
        pid: Number(entry),
        startTicks: fields[19] ?? '',
        command: parts(`/proc/${entry}/cmdline`),
        environment: readable(() => parts(`/proc/${entry}/environ`)),
      })
    } catch {}
  }
  return found
}

/** Whether it belongs to Howdah, or is a server or tool that Howdah or its tests start. */
export function concernsHowdah({ command }: MachineProcess): boolean {
  // PostgreSQL's children have titles such as `postgres: checkpointer`.
  const name = basename((command[0] ?? '').split(':')[0] ?? '')
  return (
    SERVERS.test(name) ||
    MOUNT_TITLE.test(command[0] ?? '') ||
    command.slice(0, 3).some((word) => HOWDAH_SCRIPT.test(word))
  )
}

export function processInventory(all: readonly MachineProcess[]): Inventory {
  return new Map(
    all
      .filter(concernsHowdah)
      .map((one) => [
        `${one.pid} ${one.startTicks}`,
        `process ${one.pid}: ${one.command.join(' ').slice(0, 150)}`,
      ]),
  )
}

/** FUSE mounts, and mounts of any kind that have Howdah in their name. */
export function mountInventory(): Inventory {
  const found = new Map<string, string>()
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const [source = '', target = '', type = ''] = line.split(' ')
    if (/^fuse(\.|blk|$)/.test(type) || /howdah/.test(source + target)) {
      found.set(`${source} ${target}`, `mount ${target} (${type} from ${source})`)
    }
  }
  return found
}

/** Network devices and namespaces, tables of nftables and control groups that have Howdah in their name. */
export function networkInventory(): Inventory {
  const found = new Map<string, string>()
  for (const [directory, what] of [
    ['/sys/class/net', 'network device'],
    ['/run/netns', 'network namespace'],
  ] as const) {
    for (const name of readable(() => readdirSync(directory))) {
      if (name.startsWith('howdah')) found.set(`${what} ${name}`, `${what} ${name}`)
    }
  }
  for (const table of readable(nftTables)) found.set(`table ${table}`, `table of nftables ${table}`)
  const own = ownCgroup()?.directory
  for (const name of own === undefined ? [] : readable(() => readdirSync(own))) {
    if (name.startsWith('howdah')) found.set(`cgroup ${name}`, `control group ${own}/${name}`)
  }
  return found
}

function nftTables(): string[] {
  const output = execFileSync('nft', ['list', 'tables', 'inet'], { encoding: 'utf8', stdio: 'pipe' })
  return Array.from(output.matchAll(/^table inet (howdah\S+)$/gm), ([, name = '']) => name)
}

/** `howdah*` in the temporary directories, and what is in `/tmp/howdah` and `/var/tmp/howdah`: one entry a session. */
export function temporaryInventory(): Inventory {
  const found = new Map<string, string>()
  const add = (path: string) => found.set(path, path)
  for (const directory of new Set(['/tmp', '/var/tmp', IN_MEMORY, process.env.TMPDIR ?? '/tmp'])) {
    for (const entry of readable(() => readdirSync(directory))) {
      if (entry.startsWith('howdah') && entry !== 'howdah') add(join(directory, entry))
    }
    for (const session of readable(() => readdirSync(join(directory, 'howdah')))) {
      add(join(directory, 'howdah', session))
    }
  }
  return found
}

/** Shared memory of PostgreSQL that one of these processes made or has mapped; proc(5), and the names that PostgreSQL gives it. */
export function sharedMemoryOf(pids: ReadonlySet<number>): Inventory {
  const found = new Map<string, string>()
  for (const line of lines('/proc/sysvipc/shm').slice(1)) {
    const [, id, , , creator] = line.trim().split(/\s+/)
    if (pids.has(Number(creator))) found.set(`sysv ${id}`, `System V segment ${id} of process ${creator}`)
  }
  for (const pid of pids) {
    for (const line of lines(`/proc/${pid}/maps`)) {
      const name = / (\/dev\/shm\/PostgreSQL\.\d+)$/.exec(line)?.[1]
      if (name !== undefined) found.set(name, `shared memory ${name}`)
    }
  }
  return found
}

/** Whether the shared memory of this key still exists. */
export function sharedMemoryExists(key: string): boolean {
  if (key.startsWith('/')) return existsSync(key)
  const id = key.slice('sysv '.length)
  return lines('/proc/sysvipc/shm').some((line) => line.trim().split(/\s+/)[1] === id)
}

/** TCP ports with a listening socket; proc_net_tcp(5): the local address is the second field, state 0A is LISTEN. */
export function listeningPorts(): Set<number> {
  const ports = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    lines(file)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === '0A')
      .map((fields) => Number.parseInt(fields[1]?.split(':')[1] ?? '', 16)),
  )
  return new Set(ports)
}

/** Descriptions of what `after` has and `before` does not. */
export function added(before: Inventory, after: Inventory): string[] {
  return [...after].filter(([key]) => !before.has(key)).map(([, description]) => description)
}

function parts(file: string): string[] {
  return readFileSync(file, 'utf8').split('\0').filter(Boolean)
}

function lines(file: string): string[] {
  return readable(() => readFileSync(file, 'utf8').split('\n'))
}

function readable<T>(read: () => T[]): T[] {
  try {
    return read()
  } catch {
    return []
  }
}
