/**
 * When changes become durable. The rule: data first, then the map and the size that tell of them, in one commit with
 * every name and attribute as they are at that moment; what a commit gave up is deleted only after it. So after a
 * crash a block is as it was synced last, or newer, and never something else.
 */
import type { Logger } from 'pino'
import type { BaseTree } from './base-tree.ts'
import { BLOCK, type MapChunk } from './block-map.ts'
import type { DataFiles } from './data-files.ts'
import { localError } from './file-contents.ts'
import { FileSystemError, type Ino } from './file-system.ts'
import type { Inode } from './inode.ts'
import type { ContentsRow, EntryRow, Journal } from './journal.ts'

export interface DurabilityDependencies {
  readonly base: BaseTree
  readonly files: DataFiles
  readonly journal: Journal
  readonly logger: Logger
  /** The inode that a name leads to now, 0 for none. */
  readonly entry: (parent: Ino, name: string) => Ino
  readonly intervals: DurabilityIntervals
}

/** Milliseconds after which a change is made durable although nobody asked. */
export interface DurabilityIntervals {
  readonly changed: number
  /** Losing these only means to fetch them again. */
  readonly fetched: number
}

export const DEFAULT_INTERVALS: DurabilityIntervals = { changed: 1000, fetched: 10_000 }

/** Contents of one file as they were when its data was synced. */
interface Snapshot {
  readonly inode: Inode
  readonly row: ContentsRow
  readonly chunks: readonly MapChunk[]
  readonly trim: boolean
}

/** Files synced at once; the rest of the thread pool stays with the readers. */
const PARALLEL_SYNCS = 3

export class Durability {
  readonly #to: DurabilityDependencies
  readonly #attributes = new Set<Inode>()
  readonly #essentialAttributes = new Set<Inode>()
  readonly #contents = new Set<Inode>()
  readonly #entries = new Map<Ino, Set<string>>()
  readonly #freed = new Set<Ino>()
  #snapshots: Snapshot[] = []
  #commit: Promise<void> | undefined
  readonly #timers: NodeJS.Timeout[]
  readonly #running = new Set<Promise<void>>()

  constructor(dependencies: DurabilityDependencies) {
    this.#to = dependencies
    const { changed, fetched } = dependencies.intervals
    this.#timers = [
      // Contents first: a name that is durable before them leads to an empty file after a crash.
      this.#every(changed, async () => {
        await this.#syncFiles((inode) => inode.essential)
        await this.syncNames()
      }),
      this.#every(fetched, () => this.#syncFiles(() => true)),
    ]
  }

  /** `essential`: more than the times, so a sync of the file has to write it. */
  attributesChanged(inode: Inode, essential = false): void {
    if (inode.freed) return
    this.#attributes.add(inode)
    if (essential) this.#essentialAttributes.add(inode)
  }

  /** Size or map changed. `inode.essential` tells whether a sync of the file has to write them. */
  contentsChanged(inode: Inode): void {
    if (!inode.freed) this.#contents.add(inode)
  }

  entryChanged(parent: Ino, name: string): void {
    const names = this.#entries.get(parent)
    if (names === undefined) this.#entries.set(parent, new Set([name]))
    else names.add(name)
  }

  freed(inode: Inode): void {
    this.#attributes.delete(inode)
    this.#essentialAttributes.delete(inode)
    this.#contents.delete(inode)
    this.#freed.add(inode.ino)
  }

  /** Resolves when a file's data, and what is needed to find them, are durable. @throws FileSystemError EIO | ENOSPC */
  async syncFile(inode: Inode): Promise<void> {
    const failures = inode.syncFailures
    await this.#syncData(inode, inode.essential)
    if (
      this.#namesAreDirty ||
      this.#essentialAttributes.has(inode) ||
      this.#snapshots.length > 0 ||
      this.#commit !== undefined
    )
      await this.#commitSoon()
    // A commit that somebody else waited for may have failed meanwhile, with this file in it.
    if (inode.syncFailures !== failures) {
      throw new FileSystemError('EIO', 'what was written could not be made durable')
    }
  }

  /** Resolves when every name and attribute is durable. @throws FileSystemError EIO | ENOSPC */
  async syncNames(): Promise<void> {
    if (this.#attributes.size > 0 || this.#namesAreDirty || this.#commit !== undefined)
      await this.#commitSoon()
  }

  /** Makes everything durable. */
  async syncAll(): Promise<void> {
    await this.#syncFiles(() => true)
    await this.syncNames()
  }

  /** Begins to make a file durable that takes the place of another, so that a crash finds either of them whole. */
  syncSoon(inode: Inode): void {
    if (inode.essential) this.#background(this.#syncFiles((one) => one === inode))
  }

  /** Ends the timers; resolves when what they began is done. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await Promise.all(this.#running)
  }

  get #namesAreDirty(): boolean {
    return this.#entries.size > 0 || this.#freed.size > 0
  }

  async #syncFiles(which: (inode: Inode) => boolean): Promise<void> {
    const inodes = [...this.#contents].filter(which)
    const next = inodes.values()
    await Promise.all(
      Array.from({ length: PARALLEL_SYNCS }, async () => {
        for (const inode of next) {
          await this.#syncData(inode, true)
        }
      }),
    )
    if (inodes.length > 0) await this.#commitSoon()
  }

  /** Syncs the data and, when asked, leaves a snapshot of the contents for the next commit. */
  #syncData(inode: Inode, withContents: boolean): Promise<void> {
    const sync = inode.syncing
      .catch(() => undefined)
      .then(() => (withContents || inode.essential ? this.#syncContents(inode) : this.#syncPlain(inode)))
    inode.syncing = sync
    return sync
  }

  /** Data that lies where the journal says already. */
  async #syncPlain(inode: Inode): Promise<void> {
    if (inode.freed || !inode.dataDirty) return
    inode.dataDirty = false
    try {
      await this.#to.files.sync(inode)
    } catch (error) {
      inode.dataDirty = true
      throw localError(error)
    }
  }

  async #syncContents(inode: Inode): Promise<void> {
    if (inode.freed || !(inode.dataDirty || this.#contents.has(inode))) return
    const { size, baseSize, trim, dataDirty, essential, map } = inode
    const chunks = map.takeDirty()
    const row = { ino: inode.ino, size, baseSize, fetched: map.fetched, changed: map.changed }
    this.#contents.delete(inode)
    inode.dataDirty = false
    inode.essential = false
    inode.trim = false
    inode.syncingSize = size
    const snapshot: Snapshot = { inode, row, chunks, trim }
    try {
      if (dataDirty) await this.#to.files.sync(inode)
    } catch (error) {
      inode.dataDirty = true
      this.#giveBack(snapshot)
      throw localError(error)
    } finally {
      inode.syncingSize = 0
    }
    if (inode.freed) return
    if (essential || chunks.length > 0 || trim) this.#snapshots.push(snapshot)
  }

  #giveBack({ inode, chunks, trim }: Snapshot): void {
    if (inode.freed) return
    inode.syncFailures++
    inode.map.restoreDirty(chunks)
    inode.essential = true
    inode.trim ||= trim
    this.#contents.add(inode)
  }

  /** Syncs that end in the same turn share a commit. */
  #commitSoon(): Promise<void> {
    this.#commit ??= new Promise((resolve, reject) => {
      setImmediate(() => {
        this.#commit = undefined
        try {
          this.#commitNow()
          resolve()
        } catch (error) {
          reject(localError(error))
        }
      })
    })
    return this.#commit
  }

  #commitNow(): void {
    const { base, entry, files, journal } = this.#to
    const snapshots = this.#snapshots.filter(({ inode }) => !inode.freed)
    const entries: EntryRow[] = []
    for (const [parent, names] of this.#entries) {
      for (const name of names) entries.push({ parent, name, ino: entry(parent, name) })
    }
    this.#snapshots = []
    const freed = [...this.#freed]
    try {
      journal.commit(
        {
          attributes: [...this.#attributes].map((inode) => inode.row()),
          contents: snapshots,
          entries,
          freed,
        },
        (parent, name) => base.children(parent).has(name),
      )
    } catch (error) {
      for (const snapshot of snapshots) this.#giveBack(snapshot)
      throw error
    }
    this.#attributes.clear()
    this.#essentialAttributes.clear()
    this.#entries.clear()
    this.#freed.clear()
    for (const ino of freed) files.remove(ino)
    const committed = new Map(snapshots.map(({ inode, row }) => [inode, row.size]))
    for (const { inode, trim } of snapshots) {
      if (!trim) continue
      // What this commit tells of must stay, what the next one will tell of, and what was written since.
      const size = Math.max(committed.get(inode) ?? 0, inode.syncingSize, inode.size)
      files.cut(inode, Math.ceil(size / BLOCK) * BLOCK)
    }
  }

  #every(interval: number, work: () => Promise<void>): NodeJS.Timeout {
    let running = false
    const timer = setInterval(() => {
      if (running) return
      running = true
      this.#background(
        work().finally(() => {
          running = false
        }),
      )
    }, interval)
    timer.unref()
    return timer
  }

  /** What nobody waits for; what fails is tried again at the next interval. */
  #background(work: Promise<void>): void {
    const logged = work
      .catch((err: unknown) => this.#to.logger.error({ err }, 'the write cache could not be synced'))
      .finally(() => this.#running.delete(logged))
    this.#running.add(logged)
  }
}
