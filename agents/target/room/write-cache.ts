/** What the agent knows of one write cache, by asking the mount process that changes it, and what it has told that. */
import type { Logger } from 'pino'
import type { SpaceQuotas } from '../filesystem/space/change-quota.ts'
import type { SpaceUsage } from '../filesystem/space/space.ts'
import type { CacheUse } from './division.ts'

/** The mount process of a session. Both requests answer what the session uses, and may come to use; never from memory. */
export interface ShareHolder {
  usage(): Promise<HolderUsage>
  /** Sets the limits; the answer is for the new ones. */
  limit(quotas: SpaceQuotas): Promise<HolderUsage>
}

type HolderUsage = Pick<SpaceUsage, 'changedBytes' | 'walBytes' | 'neededBytes' | 'committedBytes'>

export class WriteCache implements CacheUse {
  usedBytes = 0
  neededBytes = 0
  committedBytes = 0
  /** A session uses it, or is about to. */
  grows = true
  /** The share when it was last set. */
  shareBytes = 0
  /** The holder has been told its limits. */
  told = false
  #holder: ShareHolder | undefined
  /** The request that the holder has not answered: there is never a second one, as their answers could be swapped. */
  #pending: Promise<HolderUsage> | undefined
  readonly #logger: Logger

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** A mount process can be asked. */
  get isHeld(): boolean {
    return this.#holder !== undefined
  }

  /** From now on this one is asked; undefined: there is none. */
  setHolder(holder: ShareHolder | undefined): void {
    this.#holder = holder
    this.#pending = undefined
    this.told = false
  }

  /** A share counts as taken before it is sent, and until an answer says otherwise. */
  reserve(shareBytes: number): void {
    this.shareBytes = shareBytes
    this.committedBytes = Math.max(this.committedBytes, shareBytes)
  }

  /** Asks the holder, if there is one. Without an answer everything stays as it was. Never rejects. */
  async refresh(): Promise<void> {
    await this.#ask((holder) => holder.usage())
  }

  /** Tells the holder its limits, if there is one and it has answered everything before. Never rejects. */
  async tell(quotas: SpaceQuotas): Promise<void> {
    if (this.#pending !== undefined) return
    this.reserve(quotas.shareBytes ?? Number.POSITIVE_INFINITY)
    if (await this.#ask((holder) => holder.limit(quotas))) this.told = true
  }

  async #ask(request: (holder: ShareHolder) => Promise<HolderUsage>): Promise<boolean> {
    if (this.#holder === undefined || this.#pending !== undefined) return false
    const asked = request(this.#holder)
    this.#pending = asked
    try {
      const { changedBytes, walBytes, neededBytes, committedBytes } = await asked
      if (this.#pending !== asked) return false
      this.usedBytes = changedBytes + walBytes
      this.neededBytes = neededBytes
      this.committedBytes = Math.max(this.usedBytes, committedBytes ?? Number.POSITIVE_INFINITY)
      return true
    } catch (err) {
      // The watch over the session reports a mount process that does not answer.
      this.#logger.debug({ err }, 'a mount process did not answer about its share of the write caches')
      return false
    } finally {
      if (this.#pending === asked) this.#pending = undefined
    }
  }
}
