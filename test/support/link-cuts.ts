/** Owns cutting and restoring the links between the hosts of a test, by their neighbour and routing tables. */
import { type HostLayout, ignoreMissing } from './host-layout.ts'

/**
 * How a link is cut. `vanish`: packets are dropped without a notice, as by a dead switch. `deaf`: those of the first
 * host arrive, those of the second are dropped, so that a connection is half open. `refused`: the system reports at once
 * that there is no route.
 */
export type Cut = 'vanish' | 'deaf' | 'refused'

export interface LinkCuts {
  /** Cuts the link of two hosts; other links stay. Safe to repeat. */
  cut(one: string, other: string, how?: Cut): Promise<void>
  restore(one: string, other: string): Promise<void>
  restoreAll(): Promise<void>
}

type Undo = () => Promise<void>

/** No host has this hardware address, one of the locally administered: frames to it are dropped. */
const UNUSED_HARDWARE_ADDRESS = '02:00:00:00:00:00'

export function createLinkCuts({ ip, address, device }: HostLayout): LinkCuts {
  const cuts = new Map<string, Undo>()
  const key = (one: string, other: string): string => [one, other].sort().join(' ')

  /** Drops the packets of `from` to `to`. Returns what undoes it. */
  async function drop(from: string, to: string): Promise<Undo> {
    const neighbour = [address(to), 'dev', device(from)]
    await ip(
      from,
      ...['neighbour', 'replace', ...neighbour, 'lladdr', UNUSED_HARDWARE_ADDRESS],
      ...['nud', 'permanent'],
    )
    return async () => {
      // Deleted, so that the next packet asks for the true one.
      await ip(from, 'neighbour', 'delete', ...neighbour)
    }
  }

  async function refuse(from: string, to: string): Promise<Undo> {
    await ip(from, 'route', 'replace', 'unreachable', `${address(to)}/32`)
    return () => ip(from, 'route', 'delete', 'unreachable', `${address(to)}/32`)
  }

  async function cutBy(one: string, other: string, how: Cut): Promise<Undo[]> {
    switch (how) {
      case 'vanish':
        return [await drop(one, other), await drop(other, one)]
      case 'deaf':
        return [await drop(other, one)]
      case 'refused':
        return [await refuse(one, other), await refuse(other, one)]
      default:
        return how satisfies never
    }
  }

  async function restore(link: string): Promise<void> {
    const undo = cuts.get(link)
    cuts.delete(link)
    await undo?.()
  }

  return {
    async cut(one, other, how = 'vanish') {
      const link = key(one, other)
      await restore(link)
      const undos = await cutBy(one, other, how)
      cuts.set(link, async () => {
        const failures: unknown[] = []
        // A link that was down in between has lost them.
        for (const undo of undos) await undo().catch(ignoreMissing(failures))
        if (failures.length > 0) throw new AggregateError(failures, `the link of ${link} cannot be restored`)
      })
    },
    restore: (one, other) => restore(key(one, other)),
    async restoreAll() {
      for (const link of [...cuts.keys()]) await restore(link)
    },
  }
}
