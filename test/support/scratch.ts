import { accessSync, constants, statfsSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const IN_MEMORY = '/dev/shm'
const ENOUGH_BYTES = 8 * 1024 ** 3

/**
 * A new directory for what a test compares or copies: thousands of small files, which ext4 creates and removes several
 * times as slowly. In memory, where the machine has enough; so not for tests of durability or disk space.
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
