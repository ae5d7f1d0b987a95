/**
 * Space of the write cache: the quota for changes (change-quota.ts), and the reserve to keep free on its file system.
 * Decides what is refused when space runs out (space-use.ts), and reports `nearFull` before that, while writes that the
 * kernel has already accepted still fit.
 */
import { statfsSync } from 'node:fs'
import { BLOCK } from '../contents/block-map.ts'
import { FileSystemError, type FileSystemStatistics } from '../file-system.ts'
import { ChangeQuota, MAX_WITHHELD_BYTES, type SpaceQuotas, wholeBlocks } from './change-quota.ts'
import { type SpaceUse, WITHHELD, WITHHELD_WHILE_STARTING } from './space-use.ts'
import type { WalUsage } from './wal-usage.ts'

export interface SpaceLimits extends SpaceQuotas {
  /** Bytes to keep free on the cache's file system. */
  readonly reserveBytes: number
  /**
   * Bytes of changes that the kernel may have accepted and not written back yet. With less space left than this the cache
   * is near full, and writes are refused only once the kernel has written back everything. 0: the kernel caches no writes.
   */
  readonly marginBytes?: number | undefined
}

/** What a session uses, and may come to use. */
export interface SpaceUsage {
  readonly changedBytes: number
  readonly walBytes: number
  /** The smallest share that the session can work with: it covers the changes, and what is withheld from their growth. */
  readonly neededBytes: number
  /** Bytes that changed blocks may use now; null: no limit but the reserve. */
  readonly quotaBytes: number | null
  /**
   * Upper bound of changes and WAL together, as long as no limit is raised and WAL does not exceed what is set aside for it:
   * the share, or more when that was reduced below what is used and what the kernel has accepted. Null: there is no share.
   */
  readonly committedBytes: number | null
}

/** Bytes that may be allocated before the free space is read again. */
const RECHECK_BYTES = 16 * 1024 * 1024
/** With less free space than this beyond the reserve, it has to be known more exactly. */
const COUNT_BELOW_BYTES = 1024 * 1024 * 1024
/** Interval of doing that, ms. */
const COUNT_EVERY_MS = 250
/** Multiple of the margin that must be free again to end being near full. */
const RECOVERY_FACTOR = 1.5

export class Space {
  changedBytes = 0
  /** The disk has no space left; called before the error is thrown. */
  onDiskFull: () => void = () => undefined
  /** The file system may be short of space, and does not count yet what was allocated: to be synced, then `counted`. */
  onUncounted: () => void = () => undefined
  /** Bytes allocated that the file system may still report as free; 0 where it counts at once. */
  uncountedBytes = 0
  /** Space for growth is less than the margin. */
  nearFull = false
  readonly #directory: string
  readonly #quota: ChangeQuota
  readonly #reserve: number
  #margin: number
  /** Bytes beyond the reserve that are withheld from growth. */
  readonly #reserveShare: number
  #free = 0
  #allocatedSinceCheck = Number.POSITIVE_INFINITY
  /** The kernel has written back everything it had accepted when the cache became near full. */
  #flushed = false
  #starting = false
  readonly #countsLate: boolean
  #askedToCountAt = Number.NEGATIVE_INFINITY

  /**
   * `wal`: that of PostgreSQL in the same write cache; undefined: there is none. `countsLate`: the file system does, see
   * free-space.ts.
   */
  constructor(directory: string, limits: SpaceLimits, wal?: WalUsage, countsLate = false) {
    this.#directory = directory
    this.#countsLate = countsLate
    this.#quota = new ChangeQuota(wal)
    this.#quota.set(limits)
    this.#reserve = limits.reserveBytes
    this.#margin = limits.marginBytes ?? 0
    this.#reserveShare = Math.min(MAX_WITHHELD_BYTES, wholeBlocks(limits.reserveBytes / 2))
  }

  /** Sets quota and share. Changes beyond them stay, and writes the kernel has accepted may still exceed them. */
  limit(quotas: SpaceQuotas): void {
    this.#quota.set(quotas)
    this.check()
  }

  /** PostgreSQL is being restarted on its earlier changes, which count as within the quota. */
  set starting(starting: boolean) {
    this.#starting = starting
    this.#quota.setLeast(starting ? this.changedBytes : 0)
  }

  usage(): SpaceUsage {
    this.#quota.measure()
    this.check()
    const { growthBytes, withheld, shareBytes, walBytes } = this.#quota
    return {
      changedBytes: this.changedBytes,
      walBytes,
      neededBytes: this.#quota.shareFor(this.changedBytes),
      quotaBytes: orNull(Math.max(0, growthBytes + withheld)),
      committedBytes: orNull(Math.max(shareBytes, this.#mostChanged() + walBytes)),
    }
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
    this.#quota.refresh(bytes)
    if (this.#mayRefuse(use)) this.#require(bytes, this.#starting ? WITHHELD_WHILE_STARTING : WITHHELD[use])
    this.changedBytes += bytes
    this.#allocatedSinceCheck += bytes
    if (this.#countsLate) this.#addUncounted(bytes)
    if (this.#margin > 0) this.#updateNearFull()
  }

  release(blocks: number): void {
    if (blocks === 0) return
    this.changedBytes -= blocks * BLOCK
    this.#allocatedSinceCheck = Number.POSITIVE_INFINITY
    if (this.nearFull) this.check()
  }

  /** Updates `nearFull`; other programs fill the disk, too. */
  check(): void {
    this.#quota.refresh(0)
    this.#updateNearFull()
  }

  /** The kernel has written back everything it had accepted when the cache became near full. */
  flushed(): void {
    this.#flushed = this.nearFull
  }

  /** The file system was synced, and counts so many of the bytes that it did not. */
  counted(bytes: number): void {
    this.uncountedBytes -= bytes
    this.#allocatedSinceCheck = Number.POSITIVE_INFINITY
    this.check()
  }

  /** Statistics of the cache's file system; available is what files may grow by. */
  statistics(): FileSystemStatistics {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(this.#directory)
    this.#free = bsize * bavail - this.uncountedBytes
    this.#allocatedSinceCheck = 0
    const room = Math.max(0, Math.floor(this.#spaceForGrowth() / bsize))
    const free = this.#quota.bytes === Number.POSITIVE_INFINITY ? bfree : Math.min(bfree, room)
    return {
      blockSize: bsize,
      blocks,
      freeBlocks: free,
      availableBlocks: Math.min(room, bavail),
      files,
      freeFiles: ffree,
    }
  }

  #updateNearFull(): void {
    const left = this.#spaceForGrowth()
    if (!this.nearFull) {
      this.nearFull = this.#margin > 0 && left < this.#margin
      this.#flushed = false
    } else if (left >= this.#margin * RECOVERY_FACTOR) this.nearFull = false
  }

  /** Bytes that changes may come to use. */
  #mostChanged(): number {
    const { bytes, withheld } = this.#quota
    const quota = this.#starting ? bytes - WITHHELD_WHILE_STARTING * withheld : bytes
    // Until it has written them back, the kernel may hold writes that must not be refused.
    const accepted = this.nearFull && !this.#flushed ? this.#margin : 0
    return Math.max(quota, this.changedBytes + accepted)
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
    const quota = this.#quota.bytes - withheld * this.#quota.withheld
    const limit = withheld === 1 ? this.#quota.growthBytes : quota
    if (this.changedBytes + bytes > limit) {
      throw new FileSystemError('ENOSPC', 'the quota of the write cache is used up')
    }
    const reserve = this.#reserve - (1 - withheld) * this.#reserveShare
    if (this.#freeAfter(bytes) >= reserve) return
    // Allocated blocks that are written by now may be counted twice: read the free space again.
    this.#allocatedSinceCheck = Number.POSITIVE_INFINITY
    if (this.#freeAfter(bytes) < reserve) {
      this.onDiskFull()
      // What was freed is not counted at once either.
      if (this.#countsLate) this.#askToCount()
      throw new FileSystemError('ENOSPC', 'the file system of the write cache is down to its reserve')
    }
  }

  #addUncounted(bytes: number): void {
    const isMuch = this.uncountedBytes >= RECHECK_BYTES
    if (isMuch && this.#freeAfter(0) < this.#reserve + COUNT_BELOW_BYTES) this.#askToCount()
    // After the call: these are not written yet.
    this.uncountedBytes += bytes
  }

  #askToCount(): void {
    const now = performance.now()
    if (now - this.#askedToCountAt < COUNT_EVERY_MS) return
    this.#askedToCountAt = now
    this.onUncounted()
  }

  #spaceForGrowth(): number {
    const quota = this.#quota.growthBytes - this.changedBytes
    return Math.min(quota, this.#freeAfter(0) - this.#reserve)
  }

  /** Bytes free once everything allocated is written, and `bytes` more. */
  #freeAfter(bytes: number): number {
    if (this.#allocatedSinceCheck > RECHECK_BYTES) {
      const { bsize, bavail } = statfsSync(this.#directory)
      this.#free = bsize * bavail - this.uncountedBytes
      this.#allocatedSinceCheck = 0
    }
    return this.#free - this.#allocatedSinceCheck - bytes
  }
}

const orNull = (bytes: number) => (bytes === Number.POSITIVE_INFINITY ? null : bytes)
