/**
 * What the kernel lets a mount of FUSE keep in its page cache. It is careful with servers that it does not know: changed
 * pages may take one percent of what is allowed in all, and read-ahead is short. This server is our own; but changed
 * pages stay bounded (strict_limit, which FUSE sets, is left alone), because each must find room in the write cache.
 *
 * The kernel knows the bound as a share of its dirty threshold, which moves with the memory that is free; `max_bytes` is
 * turned into such a share when it is written. So the share is chosen, and the bound counted, by the highest value that
 * the threshold can ever have: it holds however much memory is freed later.
 *
 * Source: Linux, Documentation/ABI/testing/sysfs-class-bdi; fs/fuse/inode.c, fuse_bdi_init; mm/page-writeback.c,
 * domain_dirty_limits and __wb_calc_thresh.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import type { Logger } from 'pino'

/** Bytes that writers may have changed before they wait for the server to take them, where the kernel can be told. */
export const MAX_CHANGED_BYTES = 256 * 1024 * 1024

/** Sequential readers read ahead by the largest request. One who jumps about is not read ahead for. */
const READ_AHEAD_KB = '1024'
/** The shares that a kernel takes, finest first (Linux 6.2, and before), by how many parts make a whole. */
const SHARES = [
  { name: 'max_ratio_fine', whole: 1_000_000 },
  { name: 'max_ratio', whole: 100 },
] as const
/** What FUSE has where the share cannot be read. */
const DEFAULT_SHARE = 0.01

/** Where the kernel's files are; others in tests. */
export interface KernelFiles {
  readonly sys: string
  readonly proc: string
}

const KERNEL: KernelFiles = { sys: '/sys', proc: '/proc' }

/** `device`: as in mountinfo, `major:minor`. Does what it can: a kernel that lacks a setting works without. */
export function tuneReadAhead(device: string, logger: Logger): void {
  try {
    writeFileSync(settingPath(KERNEL, device, 'read_ahead_kb'), READ_AHEAD_KB)
  } catch (err) {
    logger.debug({ err, device }, 'read-ahead cannot be set')
  }
}

/**
 * Has the kernel hold at most `MAX_CHANGED_BYTES`, as far as it can be told; gives the bytes that it may hold indeed. To
 * be repeated: operators, udev and hot-plugged memory change what goes into it.
 */
export function boundChangedBytes(device: string, logger: Logger, files: KernelFiles = KERNEL): number {
  const threshold = highestThreshold(files)
  for (const { name, whole } of SHARES) {
    const path = settingPath(files, device, name)
    const before = readNumber(path)
    if (before === undefined) continue
    const wanted = Math.max(1, Math.min(whole, Math.floor((MAX_CHANGED_BYTES * whole) / threshold)))
    try {
      if (before !== wanted) writeFileSync(path, String(wanted))
    } catch (err) {
      logger.debug({ err, device, name }, 'the bound of changed pages cannot be set')
    }
    return Math.ceil(((readNumber(path) ?? before) * threshold) / whole)
  }
  return Math.ceil(threshold * DEFAULT_SHARE)
}

/** The dirty threshold when nothing but free memory is left. Source: Linux, Documentation/admin-guide/sysctl/vm.rst. */
function highestThreshold({ proc }: KernelFiles): number {
  const bytes = readNumber(`${proc}/sys/vm/dirty_bytes`) ?? 0
  if (bytes > 0) return bytes
  // A kernel that does not say allows the default.
  const percent = readNumber(`${proc}/sys/vm/dirty_ratio`) ?? 20
  const kilobytes = Number(/^MemTotal:\s+(\d+) kB$/m.exec(readFileSync(`${proc}/meminfo`, 'latin1'))?.[1])
  return Math.max(1, Math.floor((kilobytes * 1024 * percent) / 100))
}

function settingPath({ sys }: KernelFiles, device: string, name: string): string {
  return `${sys}/class/bdi/${device}/${name}`
}

/** Undefined: there is no such file, or no number in it. */
function readNumber(path: string): number | undefined {
  try {
    const number = Number.parseInt(readFileSync(path, 'latin1'), 10)
    return Number.isNaN(number) ? undefined : number
  } catch {
    return undefined
  }
}
