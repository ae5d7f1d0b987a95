/**
 * Several hosts on one machine: network namespaces joined by a bridge, with links that are cut and restored. The machine
 * itself is one of them, at the bridge's own address. What a host's processes see of the disk is the machine's.
 *
 * Takes root, and iproute2. Everything has `howdah` and a random suffix in its name; `remove` leaves nothing of it.
 */
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The machine itself, where the tests and what they start directly are. */
export const MACHINE = 'machine'

/**
 * How a link is cut. `vanish`: packets leave and nobody gets them, as behind a dead switch. `deaf`: those of the first
 * host arrive, those of the second vanish, so that a connection is half open. `refused`: the system says at once that
 * there is no way, as where a route is gone.
 */
export type Cut = 'vanish' | 'deaf' | 'refused'

export interface Hosts {
  address(host: string): string
  /** The command that runs `command` on a host; its process is the command's own. */
  on(host: string, command: readonly string[]): readonly [string, ...string[]]
  /** Cuts the link of two hosts; other links stay. Safe to repeat. */
  cut(one: string, other: string, how?: Cut): Promise<void>
  restore(one: string, other: string): Promise<void>
  /** Takes a host off the network, as when its cable is pulled. Not the machine. */
  unplug(host: string): Promise<void>
  plug(host: string): Promise<void>
  /** All links are whole again. */
  restoreAll(): Promise<void>
  /** Process ids of what runs on a host. Not the machine. */
  processes(host: string): Promise<number[]>
  /** kill -9 of every process of a host, as a power cut does it. Not the machine. */
  killAll(host: string): Promise<void>
  /** Ends what still runs on the hosts, and takes them away. Safe to repeat. */
  remove(): Promise<void>
}

/** Nobody has this hardware address: frames to it reach no host. It is of the locally administered ones. */
const NOBODY = '02:00:00:00:00:00'
const PREFIX_BITS = 24
const KILL_DEADLINE_MS = 5_000

/** @throws Error when namespaces cannot be made here; nothing is left then */
export async function makeHosts(names: readonly string[]): Promise<Hosts> {
  const suffix = randomBytes(3).toString('hex')
  const bridge = `howdah-${suffix}`
  const subnet = await freeSubnet()
  const namespace = (host: string): string => `howdah-${suffix}-${host}`
  const outerLink = (host: string): string => `howdah${suffix}${names.indexOf(host)}`
  const address = (host: string): string => `${subnet}.${host === MACHINE ? 1 : 2 + index(host)}`
  const cuts = new Map<string, () => Promise<void>>()
  const unplugged = new Set<string>()
  let removed = false

  function index(host: string): number {
    const at = names.indexOf(host)
    if (at < 0) throw new Error(`there is no host ${host}`)
    return at
  }

  /** `ip` in the namespace of a host. */
  async function ip(host: string, ...args: string[]): Promise<void> {
    await run('ip', host === MACHINE ? args : ['-n', namespace(host), ...args])
  }

  const device = (host: string): string => (host === MACHINE ? bridge : 'eth0')

  async function make(host: string): Promise<void> {
    await run('ip', ['netns', 'add', namespace(host)])
    const [inner, outer] = ['eth0', outerLink(host)]
    await run('ip', ['link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', namespace(host)])
    await run('ip', ['link', 'set', outer, 'master', bridge, 'up'])
    await ip(host, 'address', 'add', `${address(host)}/${PREFIX_BITS}`, 'dev', inner)
    await ip(host, 'link', 'set', 'lo', 'up')
    await ip(host, 'link', 'set', inner, 'up')
  }

  /** Packets of `from` to `to` do not arrive. Resolves to what undoes it. */
  async function silence(from: string, to: string): Promise<() => Promise<void>> {
    const neighbour = [address(to), 'dev', device(from)]
    await ip(from, 'neighbour', 'replace', ...neighbour, 'lladdr', NOBODY, 'nud', 'permanent')
    return async () => {
      // Forgotten, so that the next packet asks for the true one.
      await ip(from, 'neighbour', 'delete', ...neighbour)
    }
  }

  async function refuse(from: string, to: string): Promise<() => Promise<void>> {
    await ip(from, 'route', 'replace', 'unreachable', `${address(to)}/32`)
    return () => ip(from, 'route', 'delete', 'unreachable', `${address(to)}/32`)
  }

  async function cutBy(one: string, other: string, how: Cut): Promise<(() => Promise<void>)[]> {
    switch (how) {
      case 'vanish':
        return [await silence(one, other), await silence(other, one)]
      case 'deaf':
        return [await silence(other, one)]
      case 'refused':
        return [await refuse(one, other), await refuse(other, one)]
      default:
        return how satisfies never
    }
  }

  const link = (one: string, other: string): string => [one, other].sort().join(' ')

  async function restore(key: string): Promise<void> {
    const undo = cuts.get(key)
    cuts.delete(key)
    await undo?.()
  }

  async function plug(host: string): Promise<void> {
    if (unplugged.delete(host)) await ip(host, 'link', 'set', 'eth0', 'up')
  }

  async function processes(host: string): Promise<number[]> {
    const { stdout } = await run('ip', ['netns', 'pids', namespace(host)])
    return stdout.split('\n').filter(Boolean).map(Number)
  }

  async function killAll(host: string): Promise<void> {
    const deadline = Date.now() + KILL_DEADLINE_MS
    for (;;) {
      const pids = await processes(host)
      if (pids.length === 0) return
      if (Date.now() > deadline) throw new Error(`processes of ${host} do not end: ${pids}`)
      for (const pid of pids) kill(pid)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async function remove(): Promise<void> {
    if (removed) return
    removed = true
    process.off('exit', removeNow)
    const failures: unknown[] = []
    for (const host of names) {
      await killAll(host).catch((error: unknown) => failures.push(error))
      // By itself it would go some time after its namespace.
      await run('ip', ['link', 'delete', outerLink(host)]).catch(ignoreMissing(failures))
      await run('ip', ['netns', 'delete', namespace(host)]).catch(ignoreMissing(failures))
    }
    await run('ip', ['link', 'delete', bridge]).catch(ignoreMissing(failures))
    if (failures.length > 0) throw new AggregateError(failures, 'the hosts could not be taken away')
  }

  /** The last resort of a process of tests that ends in the middle. */
  function removeNow(): void {
    for (const host of names) {
      quietly('ip', ['link', 'delete', outerLink(host)])
      quietly('ip', ['netns', 'delete', namespace(host)])
    }
    quietly('ip', ['link', 'delete', bridge])
  }

  process.on('exit', removeNow)
  try {
    await run('ip', ['link', 'add', bridge, 'type', 'bridge'])
    await run('ip', ['address', 'add', `${address(MACHINE)}/${PREFIX_BITS}`, 'dev', bridge])
    await run('ip', ['link', 'set', bridge, 'up'])
    for (const host of names) await make(host)
  } catch (error) {
    await remove().catch(() => undefined)
    throw error
  }

  return {
    address,
    on(host, command) {
      // Not `ip netns exec`, which gives the process a mount table of its own: nobody else would see what it mounts.
      return host === MACHINE
        ? (command as [string, ...string[]])
        : ['nsenter', `--net=/run/netns/${namespace(host)}`, '--', ...command]
    },
    async cut(one, other, how = 'vanish') {
      const key = link(one, other)
      await restore(key)
      const undos = await cutBy(one, other, how)
      cuts.set(key, async () => {
        const failures: unknown[] = []
        // A link that was down meanwhile has forgotten them.
        for (const undo of undos) await undo().catch(ignoreMissing(failures))
        if (failures.length > 0) throw new AggregateError(failures, `the link of ${key} cannot be restored`)
      })
    },
    restore: (one, other) => restore(link(one, other)),
    async unplug(host) {
      index(host)
      unplugged.add(host)
      await ip(host, 'link', 'set', 'eth0', 'down')
    },
    plug,
    async restoreAll() {
      for (const host of [...unplugged]) await plug(host)
      for (const key of [...cuts.keys()]) await restore(key)
    },
    processes,
    killAll,
    remove,
  }
}

/** A network of which this machine has no other route than the default one. */
async function freeSubnet(): Promise<string> {
  for (let tries = 0; tries < 50; tries++) {
    const subnet = `10.${randomInt(1, 255)}.${randomInt(0, 255)}`
    const { stdout } = await run('ip', ['-j', 'route', 'show', 'match', `${subnet}.1`])
    const routes = JSON.parse(stdout) as { dst: string }[]
    if (routes.every(({ dst }) => dst === 'default')) return subnet
  }
  throw new Error('no private network is free on this machine')
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended meanwhile, which was wanted.
  }
}

function quietly(command: string, args: readonly string[]): void {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
  } catch {
    // It is not there.
  }
}

/** Collects failures but those of what is not there, which iproute2 tells in words only. */
function ignoreMissing(failures: unknown[]): (error: unknown) => void {
  return (error) => {
    const { stderr = '' } = error as { stderr?: string }
    if (!/Cannot find device|No such (file|process)/.test(stderr)) failures.push(error)
  }
}
