/**
 * What the kernel lets a mount of FUSE keep in its page cache. It is careful with servers that it does not know: changed
 * pages may take one percent of what is allowed in all, and read-ahead is short. This server is our own; but changed
 * pages stay bounded (strict_limit, which FUSE sets, is left alone), because each must find room in the write cache.
 *
 * Source: Linux, Documentation/ABI/testing/sysfs-class-bdi, and fs/fuse/inode.c, fuse_bdi_init.
 */
import { writeFileSync } from 'node:fs'
import type { Logger } from 'pino'

/** Bytes that writers may have changed before they wait for the server to take them. */
export const MAX_CHANGED_BYTES = 256 * 1024 * 1024

const SETTINGS: Readonly<Record<string, string>> = {
  // Sequential readers read ahead by the largest request. One who jumps about is not read ahead for.
  read_ahead_kb: '1024',
  max_bytes: String(MAX_CHANGED_BYTES),
}

/** `device`: as in mountinfo, `major:minor`. Does what it can: a kernel that lacks a setting works without. */
export function tuneBackingDevice(device: string, logger: Logger): void {
  for (const [name, value] of Object.entries(SETTINGS)) {
    try {
      writeFileSync(`/sys/class/bdi/${device}/${name}`, value)
    } catch (error) {
      logger.debug({ err: error, device, name }, 'a setting of the backing device is not to be had')
    }
  }
}
