/**
 * Space of the write cache: the quota for changes, and the reserve to keep free on its file system. Decides what is
 * refused when space runs out, and reports `nearFull` before that, while writes that the kernel has already accepted
 * still fit.
 */
import { statfsSync } from 'node:fs'
import { BLOCK } from '../contents/block-map.ts'
import { FileSystemError, type FileSystemStatistics } from '../file-system.ts'

export interface SpaceLimits {
  /** Bytes that changed blocks may use; undefined: no quota. */
  readonly quotaBytes?: number | undefined
  /** Bytes to keep free on the cache's file system. */
  readonly reserveBytes: number
  /**
   * Bytes of changes that the kernel may have accepted and not written back yet. With less space left than this the cache
   * is near full, and writes are refused only once the kernel has written back everything. 0: the kernel caches no writes.
   */
  readonly marginBytes?: number | undefined
}

/**
 * What space is used for. `growth` of a file is refused first. A further share is withheld from growth: half of it is
 * available to `small-growth` (catalogs grow by a block for a DROP TABLE), all of it to `overwrite` (hint bits while
 * reading, eviction, checkpoints). Writes `accepted` by the kernel are never refused here: the error would appear only at
 * an fsync, at which PostgreSQL panics. Nor are writes to files needed to connect.
 *
 * While PostgreSQL is restarted, everything may use half a share beyond the quota and the reserve: it writes a lock file
 * and replays its WAL, and space can be freed only once it runs.
 */
export type SpaceUse = 'growth' | 'allocation' | 'small-growth' | 'overwrite' | 'accepted'

/** Files up to this many bytes are small. */
const SMALL_FILE_BYTES = 1024 * 1024

/**
 * Whether clients can connect to a database only after PostgreSQL has written this file: some 200 KiB per database, after
 * every start. PostgreSQL 10 to 18: write_relcache_init_file in src/backend/utils/cache/relcache.c.
 */
export const isNeededToConnect = (name: string): boolean => name.startsWith('pg_internal.init')

/** What a write that ends at byte `end` of a file uses space for. */
export function useOfWrite(end: number, size: number, accepted: boolean): SpaceUse {
  if (accepted) return 'accepted'
  if (end <= size) return 'overwrite'
  return end <= SMALL_FILE_BYTES ? 'small-growth' : 'growth'
}

/** Bytes that may be allocated before the free space is read again. */
const RECHECK_BYTES = 16 * 1024 * 1024
/** The share is the quota divided by this; the operator is warned before growth reaches it. */
const QUOTA_SHARE = 32
/** Upper limit of the share withheld from growth. */
const MAX_SHARE_BYTES = 256 * 1024 * 1024
/** Multiple of the margin that must be free again to end being near full. */
const RECOVERY_FACTOR = 1.5

export class Space {
  changedBytes = 0
  /** The disk has no space left; called before the error is thrown. */
  onDiskFull: () => void = () => undefined
  /** Space for growth is less than the margin. */
  nearFull = false
  /** PostgreSQL is being restarted on its earlier changes. */
  starting = false
  readonly #directory: string
  #quota = Number.POSITIVE_INFINITY
  readonly #reserve: number
  #margin: number
  /** Bytes of the quota, and beyond the reserve, withheld from growth. */
  #quotaShare = 0
  readonly #reserveShare: number
  #free = 0
  #allocatedSinceCheck = Number.POSITIVE_INFINITY
  /** The kernel has written back everything it had accepted when the cache became near full. */
  #flushed = false

  constructor(directory: string, { quotaBytes, reserveBytes, marginBytes }: SpaceLimits) {
    this.#directory = directory
    this.#reserve = reserveBytes
    this.#margin = marginBytes ?? 0
    this.#setQuota(quotaBytes)
    this.#reserveShare = Math.min(MAX_SHARE_BYTES, wholeBlocks(reserveBytes / 2))
  }

  /** Sets the quota. Changes beyond it stay, and writes the kernel has accepted may still exceed it. */
  limit(quotaBytes: number | undefined): void {
    this.#setQuota(quotaBytes)
    this.check()
  }

  /** Sets the bytes that the kernel may have accepted. */
  setMargin(bytes: number): void {
    this.#margin = bytes
    this.check()
  }

  /** Accounts for newly changed blocks. @throws FileSystemError ENOSPC */
  allocate(blocks: number, use: SpaceUse): void {
    if (blocks === 0) return
    const bytes = blocks * BLOCK
    if (this.#mayRefuse(use)) this.#require(bytes, this.starting ? WITHHELD_WHILE_STARTING : WITHHELD[use])
    this.changedBytes += bytes
    this.#allocatedSinceCheck += bytes
    if (this.#margin > 0) this.check()
  }

  release(blocks: number): void {
    if (blocks === 0) return
    this.changedBytes -= blocks * BLOCK
    this.#allocatedSinceCheck = Number.POSITIVE_INFINITY
    if (this.nearFull) this.check()
  }

  /** Updates `nearFull`; other programs fill the disk, too. */
  check(): void {
    const left = this.#spaceForGrowth()
    if (!this.nearFull) {
      this.nearFull = left < this.#margin
      this.#flushed = false
    } else if (left >= this.#margin * RECOVERY_FACTOR) this.nearFull = false
  }

  /** The kernel has written back everything it had accepted when the cache became near full. */
  flushed(): void {
    this.#flushed = this.nearFull
  }

  /** Statistics of the cache's file system; available is what files may grow by. */
  statistics(): FileSystemStatistics {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(this.#directory)
    this.#free = bsize * bavail
    this.#allocatedSinceCheck = 0
    const room = Math.max(0, Math.floor(this.#spaceForGrowth() / bsize))
    const free = this.#quota === Number.POSITIVE_INFINITY ? bfree : Math.min(bfree, room)
    return {
      blockSize: bsize,
      blocks,
      freeBlocks: free,
      availableBlocks: Math.min(room, bavail),
      files,
      freeFiles: ffree,
    }
  }

  #setQuota(quotaBytes: number | undefined): void {
    this.#quota = quotaBytes ?? Number.POSITIVE_INFINITY
    this.#quotaShare = Math.min(MAX_SHARE_BYTES, wholeBlocks((quotaBytes ?? 0) / QUOTA_SHARE))
  }

  #mayRefuse(use: SpaceUse): boolean {
    switch (use) {
      case 'accepted':
        return false
      case 'allocation':
        return true
      case 'growth':
      case 'small-growth':
      case 'overwrite':
        // Refusing a write over a page that was accepted and not yet written back would lose that one as well.
        return this.#margin === 0 || this.#flushed
      default:
        return use satisfies never
    }
  }

  /** `withheld`: the fraction of the shares withheld from this use. */
  #require(bytes: number, withheld: number): void {
    const quota = this.#quota - withheld * this.#quotaShare
    if (this.changedBytes + bytes > quota) {
      throw new FileSystemError('ENOSPC', 'the quota of the write cache is used up')
    }
    const reserve = this.#reserve - (1 - withheld) * this.#reserveShare
    if (this.#freeAfter(bytes) >= reserve) return
    // Allocated blocks that are written by now may be counted twice: read the free space again.
    this.#allocatedSinceCheck = Number.POSITIVE_INFINITY
    if (this.#freeAfter(bytes) < reserve) {
      this.onDiskFull()
      throw new FileSystemError('ENOSPC', 'the file system of the write cache is down to its reserve')
    }
  }

  #spaceForGrowth(): number {
    const quota = this.#quota - this.#quotaShare - this.changedBytes
    return Math.min(quota, this.#freeAfter(0) - this.#reserve)
  }

  /** Bytes free once everything allocated is written, and `bytes` more. */
  #freeAfter(bytes: number): number {
    if (this.#allocatedSinceCheck > RECHECK_BYTES) {
      const { bsize, bavail } = statfsSync(this.#directory)
      this.#free = bsize * bavail
      this.#allocatedSinceCheck = 0
    }
    return this.#free - this.#allocatedSinceCheck - bytes
  }
}

/** The fraction of the shares withheld from each use. */
const WITHHELD: Readonly<Record<SpaceUse, number>> = {
  growth: 1,
  allocation: 1,
  'small-growth': 0.5,
  overwrite: 0,
  accepted: 0,
}

const WITHHELD_WHILE_STARTING = -0.5

const wholeBlocks = (bytes: number) => Math.floor(bytes / BLOCK) * BLOCK
