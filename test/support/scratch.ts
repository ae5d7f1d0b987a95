import { accessSync, constants, statfsSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const IN_MEMORY = '/dev/shm'
const ENOUGH_BYTES = 8 * 1024 ** 3

/**
 * A new directory for what a test compares with or copies: thousands of small files, whose making and removing costs
 * several times as much on ext4, which leaves the inodes of removed files alone for a while. In memory, where the
 * machine has room; so nothing whose durability or disk space a test is about.
 */
export function scratchDirectory(prefix: string): Promise<string> {
  return mkdtemp(join(hasRoom() ? IN_MEMORY : tmpdir(), prefix))
}

function hasRoom(): boolean {
  try {
    accessSync(IN_MEMORY, constants.W_OK)
    const { bavail, bsize } = statfsSync(IN_MEMORY)
    return bavail * bsize >= ENOUGH_BYTES
  } catch {
    return false
  }
}
