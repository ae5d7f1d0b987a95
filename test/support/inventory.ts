/**
 * What Howdah and the parts that it starts can leave on a machine: mounts, processes, and entries of the temporary
 * directories. Only looks; ends and removes nothing.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/** Key that stays the same while the thing exists → how a person finds it. */
export type Inventory = ReadonlyMap<string, string>

export interface MachineProcess {
  readonly pid: number
  /** Tells two processes with one pid apart: clock ticks from boot to start. */
  readonly startTicks: string
  readonly command: readonly string[]
  /** `NAME=value` each; empty where it may not be read. */
  readonly environment: readonly string[]
}

const SERVERS =
  /^(postgres|pgbackrest|pg_ctl|pgbench|beam\.smp|erl_child_setup|epmd|rabbitmq-server|fusermount3?)$/
const HOWDAH_SCRIPT = /(^|\/)(bin\/howdah|(agents|coordinator)\/[^ ]*main\.ts)$/

/** All processes that are alive; one that ends meanwhile is left out, and so are those already dead. */
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

/** Whether it is one of Howdah's, or a server or tool that Howdah or its tests start. */
export function concernsHowdah({ command }: MachineProcess): boolean {
  // PostgreSQL's children call themselves `postgres: checkpointer`.
  const name = basename((command[0] ?? '').split(':')[0] ?? '')
  return SERVERS.test(name) || command.slice(0, 3).some((word) => HOWDAH_SCRIPT.test(word))
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

/** `howdah*` in the temporary directories, and what is in `/tmp/howdah` and `/var/tmp/howdah`: one entry a session. */
export function temporaryInventory(): Inventory {
  const found = new Map<string, string>()
  const add = (path: string) => found.set(path, path)
  for (const directory of new Set(['/tmp', '/var/tmp', process.env.TMPDIR ?? '/tmp'])) {
    for (const entry of readable(() => readdirSync(directory))) {
      if (entry.startsWith('howdah') && entry !== 'howdah') add(join(directory, entry))
    }
    for (const session of readable(() => readdirSync(join(directory, 'howdah')))) {
      add(join(directory, 'howdah', session))
    }
  }
  return found
}

/** What `after` has and `before` had not, as a person finds it. */
export function added(before: Inventory, after: Inventory): string[] {
  return [...after].filter(([key]) => !before.has(key)).map(([, description]) => description)
}

function parts(file: string): string[] {
  return readFileSync(file, 'utf8').split('\0').filter(Boolean)
}

function readable<T>(read: () => T[]): T[] {
  try {
    return read()
  } catch {
    return []
  }
}
