/**
 * Bytes that the changed blocks of a session may use, by its own quota and by its share of the space of all write caches.
 *
 * The share bounds changes and WAL together. WAL is never refused, because PostgreSQL would end; so part of the share is set
 * aside for it, and files may grow by what it leaves if it takes more. Only growth is refused for WAL: a checkpoint, which
 * alone makes WAL smaller, has to overwrite blocks and to write small files, and PostgreSQL panics when it cannot.
 */
import { BLOCK } from '../contents/block-map.ts'
import type { WalUsage } from './wal-usage.ts'

/** Limits that can change while a session runs. */
export interface SpaceQuotas {
  /** Bytes that changed blocks may use; undefined: no quota. */
  readonly quotaBytes?: number | undefined
  /** Bytes that changed blocks and WAL may use together; undefined: no limit. */
  readonly shareBytes?: number | undefined
}

/** The part of its share that a session has for WAL, as a divisor, and its limits; of a small share it is half. */
const WAL_PART = 8
const MIN_WAL_PART_BYTES = 64 * 1024 ** 2
const MAX_WAL_PART_BYTES = 1024 ** 3
/** The part of the quota withheld from growth, as a divisor; the operator is warned before growth reaches it. */
const WITHHELD_PART = 32
/** Upper limit of the part of the quota, or of the reserve, that is withheld from growth. */
export const MAX_WITHHELD_BYTES = 256 * 1024 * 1024

/** Bytes of a share that are set aside for WAL. */
export const setAsideForWal = (shareBytes: number): number =>
  Math.min(shareBytes / 2, Math.max(shareBytes / WAL_PART, MIN_WAL_PART_BYTES), MAX_WAL_PART_BYTES)

export class ChangeQuota {
  /** The quota now; infinite: none. */
  bytes = Number.POSITIVE_INFINITY
  /** Of these, the bytes withheld from growth. */
  withheld = 0
  /** Bytes of changes up to which files may grow: of the quota what is not withheld, nor taken by WAL. */
  growthBytes = Number.POSITIVE_INFINITY
  /** Infinite: no limit. */
  shareBytes = Number.POSITIVE_INFINITY
  #own = Number.POSITIVE_INFINITY
  readonly #wal: WalUsage | undefined
  #least = 0

  /** `wal`: undefined: there is no WAL in this write cache. */
  constructor(wal: WalUsage | undefined) {
    this.#wal = wal
  }

  /** Bytes of WAL when last measured. */
  get walBytes(): number {
    return this.#wal?.bytes ?? 0
  }

  set({ quotaBytes, shareBytes }: SpaceQuotas): void {
    this.#own = quotaBytes ?? Number.POSITIVE_INFINITY
    this.shareBytes = shareBytes ?? Number.POSITIVE_INFINITY
    this.#calculate()
  }

  /** Makes the quota at least this, whatever the limits are; 0: no more. */
  setLeast(bytes: number): void {
    this.#least = bytes
    this.#calculate()
  }

  /** The smallest share under which that many bytes of changes are within the quota, and leave what is withheld from growth. */
  shareFor(changedBytes: number): number {
    const withheld = Math.min(Math.ceil(changedBytes / (WITHHELD_PART - 1)), MAX_WITHHELD_BYTES)
    const quota = changedBytes + withheld
    const aside = Math.max(Math.ceil(quota / (WAL_PART - 1)), MIN_WAL_PART_BYTES)
    return quota + Math.min(quota, aside, MAX_WAL_PART_BYTES)
  }

  /** Measures WAL, as far as that is due, which may change the quota. `changed`: bytes of changes since the last call. */
  refresh(changed: number): void {
    if (this.shareBytes === Number.POSITIVE_INFINITY) return
    if (this.#wal?.refresh(changed)) this.#calculate()
  }

  /** Measures WAL, whether it has a limit or not. */
  measure(): void {
    if (this.#wal?.refresh()) this.#calculate()
  }

  #calculate(): void {
    const left = wholeBlocks(this.shareBytes - setAsideForWal(this.shareBytes))
    this.bytes = Math.max(this.#least, Math.min(this.#own, left))
    const withheld = this.bytes === Number.POSITIVE_INFINITY ? 0 : wholeBlocks(this.bytes / WITHHELD_PART)
    this.withheld = Math.min(MAX_WITHHELD_BYTES, withheld)
    const leftByWal = wholeBlocks(this.shareBytes - this.walBytes)
    this.growthBytes = Math.min(this.bytes, leftByWal) - this.withheld
  }
}

/** Rounds down to whole blocks. */
export const wholeBlocks = (bytes: number): number => Math.floor(bytes / BLOCK) * BLOCK
