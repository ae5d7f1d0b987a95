/**
 * Room of the write cache: the quota of what is changed, and the reserve that the file system must keep free. Says what
 * is refused when room runs out, and warns before, while there is still room for what the kernel has accepted already.
 */
import { statfsSync } from 'node:fs'
import { BLOCK } from '../contents/block-map.ts'
import { FileSystemError, type FileSystemStatistics } from '../file-system.ts'

export interface SpaceLimits {
  /** Bytes that changed blocks may take; none when undefined. */
  readonly quotaBytes?: number | undefined
  /** Bytes that stay free on the cache's file system. */
  readonly reserveBytes: number
  /**
   * Bytes of changes that the kernel may have accepted and not handed over yet. With less room than that it is near
   * full, and writes are refused only once the kernel has handed over everything. 0: it accepts nothing by itself.
   */
  readonly marginBytes?: number | undefined
}

/**
 * What room is taken for. `growth` of a file is refused first. A share more is left, half of it, to `small-growth`: the
 * catalogs grow by a block for a DROP TABLE. All of it is left to what `overwrites`: reading (hint bits), evicting,
 * checkpoints. What was `accepted` by the kernel is never refused here: nobody would hear of it before an fsync, at which
 * PostgreSQL ends. Nor is what lets clients in.
 *
 * While PostgreSQL is started again, half a share beyond the quota and the reserve is left to everything: it writes a
 * lock file and repeats its WAL, and without it nobody could make room.
 */
export type SpaceUse = 'growth' | 'allocation' | 'small-growth' | 'overwrite' | 'accepted'

/** Bytes up to which a file is small. */
const SMALL_FILE_BYTES = 1024 * 1024

/**
 * Whether no client gets into a database before PostgreSQL has written this file: some 200 KiB for each database, after
 * every start. PostgreSQL 10 to 18: write_relcache_init_file in src/backend/utils/cache/relcache.c.
 */
export const isNeededToConnect = (name: string): boolean => name.startsWith('pg_internal.init')

/** The use of room of a write that ends at byte `end` of a file. */
export function useOfWrite(end: number, size: number, accepted: boolean): SpaceUse {
  if (accepted) return 'accepted'
  if (end <= size) return 'overwrite'
  return end <= SMALL_FILE_BYTES ? 'small-growth' : 'growth'
}

/** How many bytes may be handed out before the file system is asked again. */
const TRUST_BYTES = 16 * 1024 * 1024
/** Of the quota; the operator is warned before growth comes to it. */
const QUOTA_SHARE = 32
/** The most that growth does not get. */
const MAX_SHARE_BYTES = 256 * 1024 * 1024
/** Of the margin; so much room ends being near full. */
const RELIEF = 1.5

export class Space {
  changedBytes = 0
  /** The disk has no room; called before that is told. */
  onDiskFull: () => void = () => undefined
  /** Room for growth is less than the margin. */
  nearFull = false
  /** PostgreSQL is started on what it has changed before. */
  starting = false
  readonly #directory: string
  #quota = Number.POSITIVE_INFINITY
  readonly #reserve: number
  #margin: number
  /** Bytes below the quota, and of the reserve, that growth does not get. */
  #quotaShare = 0
  readonly #reserveShare: number
  #free = 0
  #handedOut = Number.POSITIVE_INFINITY
  /** Since it is near full the kernel has handed over all that it had accepted. */
  #flushed = false

  constructor(directory: string, { quotaBytes, reserveBytes, marginBytes }: SpaceLimits) {
    this.#directory = directory
    this.#reserve = reserveBytes
    this.#margin = marginBytes ?? 0
    this.#setQuota(quotaBytes)
    this.#reserveShare = Math.min(MAX_SHARE_BYTES, wholeBlocks(reserveBytes / 2))
  }

  /** From now on. What is over it stays, and what the kernel has accepted already is taken over it. */
  limit(quotaBytes: number | undefined): void {
    this.#setQuota(quotaBytes)
    this.check()
  }

  /** From now on the kernel may have accepted so much. */
  setMargin(bytes: number): void {
    this.#margin = bytes
    this.check()
  }

  /** Takes room for changed blocks. @throws FileSystemError ENOSPC */
  allocate(blocks: number, use: SpaceUse): void {
    if (blocks === 0) return
    const bytes = blocks * BLOCK
    if (this.#mayRefuse(use)) this.#require(bytes, this.starting ? WITHHELD_WHILE_STARTING : WITHHELD[use])
    this.changedBytes += bytes
    this.#handedOut += bytes
    if (this.#margin > 0) this.check()
  }

  release(blocks: number): void {
    if (blocks === 0) return
    this.changedBytes -= blocks * BLOCK
    this.#handedOut = Number.POSITIVE_INFINITY
    if (this.nearFull) this.check()
  }

  /** Finds out whether it is near full; others fill the disk too. */
  check(): void {
    const room = this.#roomForGrowth()
    if (!this.nearFull) {
      this.nearFull = room < this.#margin
      this.#flushed = false
    } else if (room >= this.#margin * RELIEF) this.nearFull = false
  }

  /** The kernel has handed over all that it had accepted when it became near full. */
  flushed(): void {
    this.#flushed = this.nearFull
  }

  /** Of the cache's file system; available is what files may grow by. */
  statistics(): FileSystemStatistics {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(this.#directory)
    this.#free = bsize * bavail
    this.#handedOut = 0
    const room = Math.max(0, Math.floor(this.#roomForGrowth() / bsize))
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
        // Refusing a write over a page that was accepted before, and not handed over, would lose that as well.
        return this.#margin === 0 || this.#flushed
      default:
        return use satisfies never
    }
  }

  /** `withheld`: how much of the shares is kept from it. */
  #require(bytes: number, withheld: number): void {
    const quota = this.#quota - withheld * this.#quotaShare
    if (this.changedBytes + bytes > quota) {
      throw new FileSystemError('ENOSPC', 'the quota of the write cache is used up')
    }
    const reserve = this.#reserve - (1 - withheld) * this.#reserveShare
    if (this.#freeAfterHandingOut(bytes) >= reserve) return
    // Much of what was handed out may be counted twice, as it is written by now.
    this.#handedOut = Number.POSITIVE_INFINITY
    if (this.#freeAfterHandingOut(bytes) < reserve) {
      this.onDiskFull()
      throw new FileSystemError('ENOSPC', 'the file system of the write cache is down to its reserve')
    }
  }

  #roomForGrowth(): number {
    const quota = this.#quota - this.#quotaShare - this.changedBytes
    return Math.min(quota, this.#freeAfterHandingOut(0) - this.#reserve)
  }

  /** Bytes free when all is written that was handed out, and `bytes` more. */
  #freeAfterHandingOut(bytes: number): number {
    if (this.#handedOut > TRUST_BYTES) {
      const { bsize, bavail } = statfsSync(this.#directory)
      this.#free = bsize * bavail
      this.#handedOut = 0
    }
    return this.#free - this.#handedOut - bytes
  }
}

/** How much of the shares is kept from a use. */
const WITHHELD: Readonly<Record<SpaceUse, number>> = {
  growth: 1,
  allocation: 1,
  'small-growth': 0.5,
  overwrite: 0,
  accepted: 0,
}

const WITHHELD_WHILE_STARTING = -0.5

const wholeBlocks = (bytes: number) => Math.floor(bytes / BLOCK) * BLOCK
