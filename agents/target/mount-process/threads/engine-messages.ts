/** The messages between the main thread and the engine thread of a mount process. */
import type { MessagePort } from 'node:worker_threads'
import type { FileRange } from '../../../dataplane/backup-source.ts'
import type { JournalState } from '../../filesystem/durability/journal.ts'
import type { EngineStatistics } from '../../filesystem/engine.ts'
import type { FetchedState } from '../../filesystem/fetched/fetched-index.ts'
import type { TouchedRecord } from '../../filesystem/fetched/touched-record.ts'
import type { Ino } from '../../filesystem/file-system.ts'
import type { Services } from '../../filesystem/services.ts'
import type { SpaceQuotas } from '../../filesystem/space/change-quota.ts'
import type { SpaceLimits, SpaceUsage } from '../../filesystem/space/space.ts'
import type { TreeColumns } from '../../filesystem/tree/base-tree.ts'
import type { CrossingError } from './calls.ts'
import type { DirectReadRing } from './direct-read-ring.ts'

/** Posted by the engine thread to make the main thread poll the ring of direct reads. */
export const POLL_RING = 'poll-ring'

/** Passed to an engine thread when it is started, before there is anything to mount. */
export interface EngineThreadData {
  /** Carries the calls of both sides. */
  readonly port: MessagePort
  readonly mailState: Int32Array<SharedArrayBuffer>
  readonly directReads: DirectReadRing
}

/** What an engine thread is to serve; the only message on its parent port. */
export interface EngineSetup {
  /** The FUSE device, mounted. */
  readonly fd: number
  readonly session: string
  readonly cachePath: string
  readonly columns: TreeColumns
  readonly journalState: JournalState
  readonly fetched: FetchedState | undefined
  readonly owner: { readonly uid: number; readonly gid: number }
  readonly limits: SpaceLimits
  /** Where it counts the requests that it answers: the memory of `Latencies`. */
  readonly latencies: SharedArrayBuffer
  readonly log: { readonly level: string; readonly file: string }
}

/** The handlers of the engine thread; each as in `Engine`. */
export type EngineCalls = {
  /** A direct read completed for which the engine waits. */
  directReadDone(): void
  directReadFailed(slot: number, error: CrossingError): void
  statistics(): EngineStatistics
  usage(): SpaceUsage
  limit(quotas: SpaceQuotas): SpaceUsage
  margin(bytes: number): void
  syncChanged(): Promise<void>
  flushFetched(): Promise<void>
  flush(): Promise<void>
  prefetch(record: TouchedRecord): Promise<void>
  noteDamaged(file: number, block: number): void
  starting(): void
  settled(): TouchedRecord | undefined
  /** Follows `nearFull`: the kernel has written back what it had accepted. `turn` is the number of that call. */
  handedOver(turn: number): void
  /** Only once the mount is gone. */
  close(): Promise<void>
  /** A piece for the `readMany` call with this number. */
  piece(stream: number, file: number, offset: number, data: Buffer): void
}

/** The handlers of the main thread: the services, and notifications. */
export type MainCalls = Omit<Services, 'readMany'> & {
  /** The pieces arrive as calls of `piece`; resolves after the last. */
  readMany(stream: number, ranges: readonly FileRange[]): Promise<void>
  /** There are changes that are not durable. Sent once, and again only after a sync. */
  changed(): void
  /** The same for fetched blocks that are not in the index. */
  fetched(): void
  /**
   * The write cache became near full, or no longer is: switches these files to write-through, or back.
   * `turn` counts the calls.
   */
  nearFull(turn: number, nearFull: boolean, files: Ino[]): void
  /** Makes the kernel write back the pages of a file; resolves when it has. */
  writeBack(ino: Ino): Promise<void>
  /** Answers an INTERRUPT by EAGAIN after a delay. The call itself returns at once. */
  retryInterrupt(low: number, high: number): void
  /** The mount is gone, however it was unmounted. */
  unmounted(): void
}
