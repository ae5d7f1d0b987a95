/**
 * Owns several hosts on one machine: network namespaces joined by a bridge, with links that are cut and restored. The
 * machine itself is one of them, at the bridge's own address. All hosts share the machine's file systems.
 *
 * Takes root, and iproute2. Everything has `howdah` and a random suffix in its name; `remove` leaves nothing of it.
 */
import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { HOST_DEVICE, type HostLayout, ignoreMissing, layOutHosts, MACHINE } from './host-layout.ts'
import { createLinkCuts, type LinkCuts } from './link-cuts.ts'
import { poll } from './poll.ts'

const run = promisify(execFile)

export interface Hosts extends Pick<LinkCuts, 'cut' | 'restore'> {
  address(host: string): string
  /** The command that runs `command` on a host; its process is the command's own. */
  on(host: string, command: readonly string[]): readonly [string, ...string[]]
  /** Disconnects a host from the network, as when its cable is pulled. Not the machine. */
  unplug(host: string): Promise<void>
  plug(host: string): Promise<void>
  /** Restores all links and plugs all hosts. */
  restoreAll(): Promise<void>
  /** Process ids of what runs on a host. Not the machine. */
  processes(host: string): Promise<number[]>
  /** kill -9 of every process of a host, as in a power cut. Not the machine. */
  killAll(host: string): Promise<void>
  /** Kills what still runs on the hosts, and removes them. Safe to repeat. */
  remove(): Promise<void>
}

const PREFIX_BITS = 24
const KILL_DEADLINE_MS = 5_000

/** @throws Error when namespaces cannot be made here; nothing is left then */
export async function makeHosts(names: readonly string[]): Promise<Hosts> {
  const layout = await layOutHosts(names)
  const { address, ip } = layout
  const cuts = createLinkCuts(layout)
  const unplugged = new Set<string>()
  let removed = false

  async function plug(host: string): Promise<void> {
    if (unplugged.delete(host)) await ip(host, 'link', 'set', HOST_DEVICE, 'up')
  }

  async function remove(): Promise<void> {
    if (removed) return
    removed = true
    process.off('exit', removeNow)
    await removeNetwork(layout)
  }

  /** The last resort of a test process that ends in the middle. */
  const removeNow = (): void => removeNetworkNow(layout)

  process.on('exit', removeNow)
  try {
    await makeNetwork(layout)
  } catch (error) {
    await remove().catch(() => undefined)
    throw error
  }

  return {
    address,
    on: (host, command) => commandOn(layout, host, command),
    cut: cuts.cut,
    restore: cuts.restore,
    async unplug(host) {
      if (!names.includes(host)) throw new Error(`there is no host ${host}`)
      unplugged.add(host)
      await ip(host, 'link', 'set', HOST_DEVICE, 'down')
    },
    plug,
    async restoreAll() {
      for (const host of [...unplugged]) await plug(host)
      await cuts.restoreAll()
    },
    processes: (host) => processesOf(layout, host),
    killAll: (host) => killAll(layout, host),
    remove,
  }
}

async function makeNetwork(layout: HostLayout): Promise<void> {
  const { names, bridge, address, namespace, outerLink, ip } = layout
  await run('ip', ['link', 'add', bridge, 'type', 'bridge'])
  await run('ip', ['address', 'add', `${address(MACHINE)}/${PREFIX_BITS}`, 'dev', bridge])
  await run('ip', ['link', 'set', bridge, 'up'])
  for (const host of names) {
    await run('ip', ['netns', 'add', namespace(host)])
    const peer = ['peer', 'name', HOST_DEVICE, 'netns', namespace(host)]
    await run('ip', ['link', 'add', outerLink(host), 'type', 'veth', ...peer])
    await run('ip', ['link', 'set', outerLink(host), 'master', bridge, 'up'])
    await ip(host, 'address', 'add', `${address(host)}/${PREFIX_BITS}`, 'dev', HOST_DEVICE)
    await ip(host, 'link', 'set', 'lo', 'up')
    await ip(host, 'link', 'set', HOST_DEVICE, 'up')
  }
}

async function removeNetwork(layout: HostLayout): Promise<void> {
  const failures: unknown[] = []
  for (const host of layout.names) {
    await killAll(layout, host).catch((error: unknown) => failures.push(error))
    // The kernel would remove it only some time after its namespace.
    await run('ip', ['link', 'delete', layout.outerLink(host)]).catch(ignoreMissing(failures))
    await run('ip', ['netns', 'delete', layout.namespace(host)]).catch(ignoreMissing(failures))
  }
  await run('ip', ['link', 'delete', layout.bridge]).catch(ignoreMissing(failures))
  if (failures.length > 0) throw new AggregateError(failures, 'the hosts could not be removed')
}

function removeNetworkNow({ names, bridge, namespace, outerLink }: HostLayout): void {
  for (const host of names) {
    quietly('ip', ['link', 'delete', outerLink(host)])
    quietly('ip', ['netns', 'delete', namespace(host)])
  }
  quietly('ip', ['link', 'delete', bridge])
}

/** Not `ip netns exec`, which gives the process a mount namespace of its own: its mounts would be invisible to others. */
function commandOn(
  { namespace }: HostLayout,
  host: string,
  command: readonly string[],
): readonly [string, ...string[]] {
  return host === MACHINE
    ? (command as [string, ...string[]])
    : ['nsenter', `--net=/run/netns/${namespace(host)}`, '--', ...command]
}

async function processesOf({ namespace }: HostLayout, host: string): Promise<number[]> {
  const { stdout } = await run('ip', ['netns', 'pids', namespace(host)])
  return stdout.split('\n').filter(Boolean).map(Number)
}

async function killAll(layout: HostLayout, host: string): Promise<void> {
  let pids: readonly number[] = []
  await poll(
    async () => {
      pids = await processesOf(layout, host)
      for (const pid of pids) kill(pid)
      return pids.length === 0 ? true : undefined
    },
    {
      deadlineMs: KILL_DEADLINE_MS,
      everyMs: 20,
      failure: () => `processes of ${host} do not end: ${pids}`,
    },
  )
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}

function quietly(command: string, args: readonly string[]): void {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
  } catch {
    // It is not there.
  }
}
