/**
 * What the kernel may cache for a FUSE mount. By default it does not trust the server: dirty pages may use one percent
 * of the global limit, and read-ahead is short. This server is trusted, so both are raised; but dirty pages stay bounded
 * (strict_limit, which FUSE sets, is kept), because each must find space in the write cache.
 *
 * The kernel keeps the bound as a share of its dirty threshold, which varies with free memory; `max_bytes` is converted
 * to such a share when it is written. So the share is computed from the highest value that the threshold can ever have,
 * and the bound holds however much memory becomes free later.
 *
 * Source: Linux, Documentation/ABI/testing/sysfs-class-bdi; fs/fuse/inode.c, fuse_bdi_init; mm/page-writeback.c,
 * domain_dirty_limits and __wb_calc_thresh.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import type { Logger } from 'pino'
import { isKernelAtLeast } from '../../../preflight/kernel-release.ts'

/** Dirty bytes at which writers are throttled until the server has taken some, where the kernel can be configured. */
export const MAX_CHANGED_BYTES = 256 * 1024 * 1024

/** Read-ahead of sequential readers: the largest request. Random reads are not read ahead. */
const READ_AHEAD_KB = '1024'
/** The settings for the share, finest first (Linux 6.2, and before); `whole`: the value that stands for all. */
const SHARES = [
  { name: 'max_ratio_fine', whole: 1_000_000 },
  { name: 'max_ratio', whole: 100 },
] as const
/** The default of FUSE, where the share cannot be read. */
const DEFAULT_SHARE = 0.01

/** Where the kernel's files are; tests use others. */
export interface KernelFiles {
  readonly sys: string
  readonly proc: string
}

const KERNEL: KernelFiles = { sys: '/sys', proc: '/proc' }

/** `device`: as in mountinfo, `major:minor`. Best effort: a kernel without the setting works, too. */
export function tuneReadAhead(device: string, logger: Logger): void {
  try {
    writeFileSync(settingPath(KERNEL, device, 'read_ahead_kb'), READ_AHEAD_KB)
  } catch (err) {
    logger.debug({ err, device }, 'read-ahead cannot be set')
  }
}

/**
 * Limits dirty pages to `MAX_CHANGED_BYTES`, as far as the kernel can be configured; returns the bytes that it may
 * actually hold. To be repeated: operators, udev and hot-plugged memory change the inputs.
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

/** What `boundChangedBytes` would return for any mount, as far as that can be known before. */
export function mostChangedBytes(files: KernelFiles = KERNEL): number {
  const threshold = highestThreshold(files)
  // Before Linux 6.2 the share is of whole percents.
  const step = isKernelAtLeast(6, 2) ? 1 : Math.ceil(threshold / 100)
  return Math.max(MAX_CHANGED_BYTES, step)
}

/** The dirty threshold if all memory were free. Source: Linux, Documentation/admin-guide/sysctl/vm.rst. */
function highestThreshold({ proc }: KernelFiles): number {
  const bytes = readNumber(`${proc}/sys/vm/dirty_bytes`) ?? 0
  if (bytes > 0) return bytes
  // Where it cannot be read, assume the kernel's default.
  const percent = readNumber(`${proc}/sys/vm/dirty_ratio`) ?? 20
  const kilobytes = Number(/^MemTotal:\s+(\d+) kB$/m.exec(readFileSync(`${proc}/meminfo`, 'latin1'))?.[1])
  return Math.max(1, Math.floor((kilobytes * 1024 * percent) / 100))
}

function settingPath({ sys }: KernelFiles, device: string, name: string): string {
  return `${sys}/class/bdi/${device}/${name}`
}

/** Undefined: the file does not exist, or holds no number. */
function readNumber(path: string): number | undefined {
  try {
    const number = Number.parseInt(readFileSync(path, 'latin1'), 10)
    return Number.isNaN(number) ? undefined : number
  } catch {
    return undefined
  }
}
