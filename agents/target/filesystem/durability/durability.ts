/**
 * When changes become durable. The rule: data is synced first, then the map and the size that refer to it are committed,
 * together with every name and attribute as of that moment; local files that a commit frees are deleted only after it.
 * So after a crash a block is as last synced, or newer, and never anything else.
 *
 * One commit is in progress at a time; changes made meanwhile are in the next. A failed commit leaves everything pending.
 */
import type { Logger } from 'pino'
import { BLOCK, type MapChunk } from '../contents/block-map.ts'
import type { DataFiles } from '../contents/data-files.ts'
import { localError } from '../contents/local-error.ts'
import { FileSystemError, type Ino } from '../file-system.ts'
import type { Inode } from '../namespace/inode.ts'
import type { Services } from '../services.ts'
import type { BaseTree } from '../tree/base-tree.ts'
import type { Batch, ContentsRow } from './journal.ts'

export interface DurabilityDependencies {
  readonly base: BaseTree
  readonly files: DataFiles
  readonly services: Pick<Services, 'commit'>
  readonly logger: Logger
  /** The inode that a name refers to now, 0 for none. */
  readonly entry: (parent: Ino, name: string) => Ino
}

/** The contents record of one file at the moment its data was synced. */
interface Snapshot {
  readonly inode: Inode
  readonly row: ContentsRow
  readonly chunks: readonly MapChunk[]
  /** Bytes of the local file that row and chunks need. */
  readonly localSize: number
  readonly trim: boolean
}

/** What the next commit has to write. */
class Changes {
  readonly attributes = new Set<Inode>()
  /** The subset of `attributes` that a sync of the file has to commit. */
  readonly essentialAttributes = new Set<Inode>()
  readonly entries = new Map<Ino, Set<string>>()
  readonly freed = new Set<Ino>()
  readonly snapshots: Snapshot[] = []

  addEntry(parent: Ino, name: string): void {
    const names = this.entries.get(parent)
    if (names === undefined) this.entries.set(parent, new Set([name]))
    else names.add(name)
  }

  get hasNames(): boolean {
    return this.entries.size > 0 || this.freed.size > 0
  }

  get isEmpty(): boolean {
    return this.attributes.size === 0 && !this.hasNames && this.snapshots.length === 0
  }
}

/** Files synced in parallel; the rest of the thread pool stays free for reads. */
const PARALLEL_SYNCS = 3

export class Durability {
  readonly #to: DurabilityDependencies
  /** Inodes whose size or changed blocks differ from the journal. */
  readonly #contents = new Set<Inode>()
  /** Other inodes written since their last sync: only their data has to reach the disk. */
  readonly #written = new Set<Inode>()
  /** Syncs of files in progress. */
  readonly #syncs = new Set<Promise<void>>()
  #changes = new Changes()
  /** The commit in progress, and the next one, which waits for it and includes everything pending by then. */
  #committing: Promise<void> | undefined
  #nextCommit: Promise<void> | undefined
  #stopped = false

  constructor(dependencies: DurabilityDependencies) {
    this.#to = dependencies
  }

  /** Whether `syncChanged` has anything to do. */
  get unsynced(): boolean {
    return this.#contents.size > 0 || !this.#changes.isEmpty
  }

  /** `essential`: not only the times changed, so a sync of the file has to commit it. */
  attributesChanged(inode: Inode, essential = false): void {
    if (inode.freed) return
    inode.differs = true
    this.#changes.attributes.add(inode)
    if (essential) this.#changes.essentialAttributes.add(inode)
  }

  /** Data was written; `inode.essential` says whether the size or the changed blocks differ from the journal. */
  contentsChanged(inode: Inode): void {
    if (inode.freed) return
    inode.differs = true
    if (inode.essential) this.#contents.add(inode)
    else this.#written.add(inode)
  }

  entryChanged(parent: Ino, name: string): void {
    this.#changes.addEntry(parent, name)
  }

  freed(inode: Inode): void {
    this.#changes.attributes.delete(inode)
    this.#changes.essentialAttributes.delete(inode)
    this.#contents.delete(inode)
    this.#written.delete(inode)
    this.#changes.freed.add(inode.ino)
  }

  /** Resolves when a file's data, and the metadata needed to find it, are durable. @throws FileSystemError EIO | ENOSPC */
  async syncFile(inode: Inode): Promise<void> {
    const failures = inode.syncFailures
    try {
      await this.#syncData(inode, false)
      const { hasNames, essentialAttributes, snapshots } = this.#changes
      if (hasNames || essentialAttributes.has(inode) || snapshots.length > 0) await this.#commit()
      else await (this.#nextCommit ?? this.#committing)
    } catch (error) {
      inode.lossUnreported = false
      throw error
    }
    // Another caller's sync of this file may have failed meanwhile, and a later success does not cover what it lost.
    if (inode.syncFailures === failures && !inode.lossUnreported) return
    inode.lossUnreported = false
    throw new FileSystemError('EIO', 'what was written could not be made durable')
  }

  /** Resolves when every name and attribute is durable. @throws FileSystemError EIO | ENOSPC */
  async syncNames(): Promise<void> {
    if (!this.#changes.isEmpty) await this.#commit()
    else await (this.#nextCommit ?? this.#committing)
  }

  /**
   * Makes changes durable. Contents first: a name that became durable before them would refer to an empty file after a
   * crash.
   * @throws FileSystemError EIO | ENOSPC
   */
  async syncChanged(): Promise<void> {
    await this.#syncFiles(this.#contents)
    await this.syncNames()
  }

  /** Makes everything durable. @throws FileSystemError EIO | ENOSPC */
  async syncAll(): Promise<void> {
    await this.#syncFiles(new Set([...this.#contents, ...this.#written]))
    await this.syncNames()
  }

  /** Starts to sync a file that replaced another by rename, so that a crash leaves one of them complete. */
  syncSoon(inode: Inode): void {
    if (!inode.essential) return
    this.#syncData(inode, true)
      .then(() => this.#commit())
      .catch((err: unknown) => this.#to.logger.error({ err }, 'the write cache could not be synced'))
  }

  /** No commit is made from now on. */
  stop(): void {
    this.#stopped = true
  }

  async #syncFiles(inodes: ReadonlySet<Inode>): Promise<void> {
    const next = [...inodes].values()
    const failures: unknown[] = []
    const lane = async () => {
      for (const inode of next) {
        await this.#syncData(inode, true).catch((error: unknown) => failures.push(error))
      }
    }
    await Promise.all(Array.from({ length: PARALLEL_SYNCS }, lane))
    // Syncs of other callers have removed files from the sets, and may not have queued their snapshots yet.
    await Promise.allSettled(this.#syncs)
    if (this.#changes.snapshots.length > 0) await this.#commit()
    if (failures.length > 0) throw failures[0]
  }

  /**
   * Syncs the data and, when requested or necessary, queues a snapshot of the contents for the next commit. Starts at
   * once unless the file is already being synced.
   */
  #syncData(inode: Inode, withContents: boolean): Promise<void> {
    const run = () => (withContents || inode.essential ? this.#syncContents(inode) : this.#syncPlain(inode))
    const sync = inode.syncing === undefined ? run() : inode.syncing.then(run, run)
    inode.syncing = sync
    this.#syncs.add(sync)
    const done = () => {
      this.#syncs.delete(sync)
      if (inode.syncing === sync) inode.syncing = undefined
    }
    sync.then(done, done)
    return sync
  }

  /** Syncs data of blocks that the journal already records as changed. */
  async #syncPlain(inode: Inode): Promise<void> {
    if (inode.freed || !inode.dataDirty) return
    inode.dataDirty = false
    this.#written.delete(inode)
    try {
      await this.#syncLocalFile(inode)
    } catch (error) {
      this.contentsChanged(inode)
      throw error
    }
  }

  async #syncContents(inode: Inode): Promise<void> {
    if (inode.freed || !(this.#contents.has(inode) || this.#written.has(inode))) return
    const { size, baseSize, trim, dataDirty, essential, map } = inode
    const chunks = map.takeDirty()
    const row = { ino: inode.ino, size, baseSize, changed: map.changed }
    const localSize = Math.max(Math.ceil(size / BLOCK), map.end) * BLOCK
    const snapshot: Snapshot = { inode, row, chunks, localSize, trim }
    this.#contents.delete(inode)
    this.#written.delete(inode)
    inode.dataDirty = false
    inode.essential = false
    inode.trim = false
    try {
      if (dataDirty) await this.#syncLocalFile(inode)
    } catch (error) {
      this.#restore(snapshot)
      throw error
    }
    if (inode.freed) return
    if (essential || chunks.length > 0 || trim) this.#changes.snapshots.push(snapshot)
  }

  async #syncLocalFile(inode: Inode): Promise<void> {
    try {
      await this.#to.files.sync(inode)
    } catch (error) {
      // The kernel may have dropped pages it could not write; a second attempt would then succeed without them.
      inode.dataDirty = true
      inode.lossUnreported = true
      inode.syncFailures++
      throw localError(error)
    }
  }

  #restore({ inode, chunks, trim }: Snapshot): void {
    if (inode.freed) return
    inode.map.restoreDirty(chunks)
    inode.essential = true
    inode.trim ||= trim
    this.contentsChanged(inode)
  }

  /** Resolves when everything pending is durable. */
  #commit(): Promise<void> {
    this.#nextCommit ??= this.#currentCommitEnded().then(() => {
      this.#nextCommit = undefined
      const commit = this.#commitNow()
      this.#committing = commit
      const done = () => {
        if (this.#committing === commit) this.#committing = undefined
      }
      commit.then(done, done)
      return commit
    })
    return this.#nextCommit
  }

  async #currentCommitEnded(): Promise<void> {
    // Its own callers report its failure.
    await this.#committing?.catch(() => undefined)
  }

  async #commitNow(): Promise<void> {
    const changes = this.#changes
    this.#changes = new Changes()
    const snapshots = changes.snapshots.filter(({ inode }) => !inode.freed)
    const batch: Batch = {
      attributes: Array.from(changes.attributes, (inode) => inode.row()),
      contents: snapshots.map(({ row, chunks }) => ({ row, chunks })),
      entries: this.#entriesOf(changes),
      freed: [...changes.freed],
    }
    try {
      if (this.#stopped) throw new Error('the write cache is closed')
      await this.#to.services.commit(batch)
    } catch (error) {
      this.#restoreAll(changes, snapshots)
      throw localError(error)
    }
    if (this.#stopped) return
    for (const ino of batch.freed) this.#to.files.remove(ino)
    for (const snapshot of snapshots) if (snapshot.trim) this.#truncate(snapshot)
  }

  #entriesOf(changes: Changes): Batch['entries'] {
    const { base, entry } = this.#to
    return Array.from(changes.entries, ([parent, names]) =>
      Array.from(names, (name) => {
        const ino = entry(parent, name)
        return { parent, name, ino: ino === base.lookup(parent, name) ? null : ino }
      }),
    ).flat()
  }

  #restoreAll(changes: Changes, snapshots: readonly Snapshot[]): void {
    for (const snapshot of snapshots) {
      snapshot.inode.syncFailures++
      this.#restore(snapshot)
    }
    for (const inode of changes.attributes) {
      this.attributesChanged(inode, changes.essentialAttributes.has(inode))
    }
    for (const [parent, names] of changes.entries) for (const name of names) this.entryChanged(parent, name)
    for (const ino of changes.freed) this.#changes.freed.add(ino)
  }

  /** Truncates the local file behind the contents that were committed. */
  #truncate({ inode, localSize }: Snapshot): void {
    if (inode.freed) return
    // A queued snapshot may still refer to a longer file; wait for its commit.
    const waits =
      inode.syncing !== undefined || this.#changes.snapshots.some((later) => later.inode === inode)
    const size = Math.max(localSize, Math.ceil(inode.size / BLOCK) * BLOCK, inode.map.end * BLOCK)
    if (!waits && this.#to.files.truncate(inode, size)) return
    inode.trim = true
    inode.essential = true
    this.contentsChanged(inode)
  }
}
