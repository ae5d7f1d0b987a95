/**
 * What the kernel lets a mount of FUSE keep in its page cache. It is careful with servers that it does not know: at most
 * one percent of the room for changed pages, strictly held, and a short read-ahead. This server is our own.
 *
 * Source: Linux, Documentation/ABI/testing/sysfs-class-bdi, and fs/fuse/inode.c, fuse_bdi_init.
 */
import { writeFileSync } from 'node:fs'
import type { Logger } from 'pino'

const SETTINGS: Readonly<Record<string, string>> = {
  // Sequential readers read ahead by the largest request. One who jumps about is not read ahead for.
  read_ahead_kb: '1024',
  strict_limit: '0',
  max_ratio: '100',
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
