/** Watches the free space of a file system while an export writes to it. */
import { stat, statfs } from 'node:fs/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { formatBytesRoughly } from '../../../../messages/format-bytes.ts'
import { freeBytes } from '../../preflight/space.ts'

export interface FreeSpaceWatch {
  /** The error when space ran out; undefined: there was enough. */
  readonly failure: () => HowdahError | undefined
  stop(): void
}

const CHECK_EVERY_MS = 300
/** Less than this counts as full, since a program's buffered output may not fit any more. */
const MIN_FREE_BYTES = 8 * 1024 * 1024

/**
 * Checks the free space of `directory` at intervals. On the file system of the write cache an export must leave the reserve
 * of the sessions free: PostgreSQL ends when it cannot write WAL.
 */
export async function watchFreeSpace(options: {
  readonly directory: string
  readonly cachePath: string
  readonly reserveBytes: number
  readonly onFull: () => void
}): Promise<FreeSpaceWatch> {
  const { directory, cachePath, reserveBytes, onFull } = options
  const shared = (await stat(directory)).dev === (await stat(cachePath)).dev
  const least = shared ? Math.max(reserveBytes, MIN_FREE_BYTES) : MIN_FREE_BYTES
  let failure: HowdahError | undefined
  const check = async (): Promise<void> => {
    const free = await freeBytes(directory).catch(() => undefined)
    if (free === undefined || free >= least || failure) return
    const { bsize, blocks } = await statfs(directory)
    const kept = shared ? `, and ${formatBytesRoughly(reserveBytes)} of it are kept for the sessions` : ''
    failure = new HowdahError(
      'space_low',
      `no room is left at ${directory}: ${formatBytesRoughly(free)} of ${formatBytesRoughly(bsize * blocks)} are free${kept}. Make room, or export elsewhere.`,
    )
    onFull()
  }
  await check()
  const timer = setInterval(() => void check(), CHECK_EVERY_MS)
  return { failure: () => failure, stop: () => clearInterval(timer) }
}
