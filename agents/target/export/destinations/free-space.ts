/** Room on a file system while an export writes to it. */
import { stat, statfs } from 'node:fs/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { formatBytesRoughly } from '../../../../messages/format-bytes.ts'
import { freeBytes } from '../../preflight/space.ts'

export interface FreeSpaceWatch {
  /** What ended the export; undefined: there was room. */
  readonly failure: () => HowdahError | undefined
  stop(): void
}

const LOOK_EVERY_MS = 300
/** So little is none: what a program has in hand does not fit any more. */
const NONE_BYTES = 8 * 1024 * 1024

/**
 * Watches the room below `directory` while something is written there. On the file system of the write cache an export
 * must leave the sessions their reserve: PostgreSQL ends when it finds no room for its WAL.
 */
export async function watchFreeSpace(options: {
  readonly directory: string
  readonly cachePath: string
  readonly reserveBytes: number
  readonly onFull: () => void
}): Promise<FreeSpaceWatch> {
  const { directory, cachePath, reserveBytes, onFull } = options
  const shared = (await stat(directory)).dev === (await stat(cachePath)).dev
  const least = shared ? Math.max(reserveBytes, NONE_BYTES) : NONE_BYTES
  let failure: HowdahError | undefined
  const look = async (): Promise<void> => {
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
  await look()
  const timer = setInterval(() => void look(), LOOK_EVERY_MS)
  return { failure: () => failure, stop: () => clearInterval(timer) }
}
