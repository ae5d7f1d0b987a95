/** Room of the write cache: the quota of what is changed, and the reserve that the file system must keep free. */
import { statfsSync } from 'node:fs'
import { BLOCK } from './block-map.ts'
import { FileSystemError, type FileSystemStatistics } from './file-system.ts'

export interface SpaceLimits {
  /** Bytes that changed blocks may take; none when undefined. */
  readonly quotaBytes?: number | undefined
  /** Bytes that stay free on the cache's file system. */
  readonly reserveBytes: number
}

/** How many bytes may be handed out before the file system is asked again. */
const TRUST_BYTES = 16 * 1024 * 1024

export class Space {
  changedBytes = 0
  readonly #directory: string
  readonly #limits: SpaceLimits
  #free = 0
  #handedOut = Number.POSITIVE_INFINITY

  constructor(directory: string, limits: SpaceLimits) {
    this.#directory = directory
    this.#limits = limits
  }

  /** Takes room for changed blocks. @throws FileSystemError ENOSPC */
  take(blocks: number): void {
    if (blocks === 0) return
    const bytes = blocks * BLOCK
    const { quotaBytes } = this.#limits
    if (quotaBytes !== undefined && this.changedBytes + bytes > quotaBytes) {
      throw new FileSystemError('ENOSPC', 'the quota of the write cache is used up')
    }
    if (!this.#hasFree(bytes, this.#limits.reserveBytes)) {
      throw new FileSystemError('ENOSPC', 'the file system of the write cache is down to its reserve')
    }
    this.changedBytes += bytes
  }

  give(blocks: number): void {
    this.changedBytes -= blocks * BLOCK
    this.#handedOut = Number.POSITIVE_INFINITY
  }

  /** Whether copies of the repository's blocks may be kept: they leave twice the reserve to changes. */
  mayKeep(blocks: number): boolean {
    return this.#hasFree(blocks * BLOCK, this.#limits.reserveBytes * 2)
  }

  statistics(): FileSystemStatistics {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(this.#directory)
    const reserve = Math.ceil(this.#limits.reserveBytes / bsize)
    const { quotaBytes } = this.#limits
    const quota =
      quotaBytes === undefined
        ? Number.POSITIVE_INFINITY
        : Math.max(0, Math.floor((quotaBytes - this.changedBytes) / bsize))
    return {
      blockSize: bsize,
      blocks,
      freeBlocks: Math.min(quota, bfree),
      availableBlocks: Math.min(quota, Math.max(0, bavail - reserve)),
      files,
      freeFiles: ffree,
    }
  }

  #hasFree(bytes: number, reserve: number): boolean {
    this.#handedOut += bytes
    if (this.#handedOut > TRUST_BYTES || this.#free - this.#handedOut < reserve) {
      const { bsize, bavail } = statfsSync(this.#directory)
      this.#free = bsize * bavail
      this.#handedOut = bytes
    }
    return this.#free - bytes >= reserve
  }
}
