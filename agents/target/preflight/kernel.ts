/**
 * What this machine's kernel offers, looked up once when the agent starts, and what its users are told of it. Isolation has
 * its own probe; whether FUSE can be used at all is checked by fuse.ts.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { release } from 'node:os'
import { formatBytesRoughly } from '../../../messages/format-bytes.ts'
import { MAX_CHANGED_BYTES, mostChangedBytes } from '../filesystem/drivers/kernel/backing-device.ts'
import { lookUpOffer } from '../filesystem/drivers/kernel/look-up-offer.ts'
import { agreement, isTooOld, type Offer } from '../filesystem/drivers/kernel/negotiation.ts'
import { INIT, MAJOR, OLDEST_MINOR } from '../filesystem/drivers/kernel/protocol.ts'
import { isMounted } from '../filesystem/drivers/mount-table.ts'
import type { Finding } from './settings.ts'

export interface KernelSupport {
  /** As of uname(2). */
  readonly release: string
  /** Undefined: the agent mounts by fusermount, or could not find out. */
  readonly fuse?: Offer
  /** Bytes of changes that the kernel may hold of one mount. */
  readonly changedBytes: number
}

/** Never rejects. @param directory of the agent's own, in which `name` is made and removed */
export async function lookUpKernel(directory: string, name: string): Promise<KernelSupport> {
  const known = { release: release(), changedBytes: mostChangedBytes() }
  if (process.geteuid?.() !== 0) return known
  const mountPoint = `${directory}/${name}`
  try {
    mkdirSync(mountPoint, { recursive: true, mode: 0o700 })
    return { ...known, fuse: await lookUpOffer(mountPoint) }
  } catch {
    // What keeps this machine from mounting is reported by preflight.
    return known
  } finally {
    if (!isMounted(mountPoint)) rmSync(mountPoint, { recursive: true, force: true })
  }
}

/** An error where nothing can be mounted, warnings where Howdah works with less. */
export function kernelFindings({ release: running, fuse, changedBytes }: KernelSupport): Finding[] {
  if (fuse === undefined) return []
  const here = `Linux ${running} offers FUSE ${MAJOR}.${fuse.minor}`
  if (isTooOld(fuse))
    return [
      {
        code: 'fuse_unusable',
        message: `${here}, and Howdah needs ${MAJOR}.${OLDEST_MINOR}. Use Linux 4.18 or later.`,
      },
    ]
  const said: string[] = []
  const { cachesWrites } = agreement(fuse)
  if (!cachesWrites)
    said.push(
      `${here} without HANDLE_KILLPRIV_V2, so writes to mounts are not cached by the kernel, and are slower: otherwise PostgreSQL would hear of a full disk too late. Linux 5.11 or later has it.`,
    )
  if ((fuse.flags & INIT.MAX_PAGES) === 0)
    said.push(
      `${here} without MAX_PAGES, so reads and writes of mounts are requested in pieces of 128 KiB. Linux 4.20 or later has it.`,
    )
  if (cachesWrites && changedBytes > 2 * MAX_CHANGED_BYTES)
    said.push(
      `The kernel may hold ${formatBytesRoughly(changedBytes)} of changes of each mount, because its bound cannot be set more finely here; as much twice over stays free in a write cache. Linux 6.2 or later sets it finely; otherwise set vm.dirty_bytes.`,
    )
  return said.map((message) => ({ level: 'warning', code: 'kernel_limited', message }))
}
