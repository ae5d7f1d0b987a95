/** What the main thread and the engine thread of a mount process say to each other. */
import type { MessagePort } from 'node:worker_threads'
import type { FileRange } from '../../../dataplane/backup-source.ts'
import type { JournalState } from '../../filesystem/durability/journal.ts'
import type { EngineStatistics } from '../../filesystem/engine.ts'
import type { FetchedState } from '../../filesystem/fetched/fetched-index.ts'
import type { TouchedRecord } from '../../filesystem/fetched/touched-record.ts'
import type { Ino } from '../../filesystem/file-system.ts'
import type { Services } from '../../filesystem/services.ts'
import type { SpaceLimits } from '../../filesystem/space/space.ts'
import type { TreeColumns } from '../../filesystem/tree/base-tree.ts'
import type { CrossingError } from './calls.ts'
import type { DirectReadRing } from './direct-read-ring.ts'

/** What the engine thread posts to have the main thread look at the ring of direct reads. */
export const POLL_RING = 'look'

/** With what an engine thread is started, before there is anything to mount. */
export interface EngineThreadData {
  /** Calls of both sides. */
  readonly port: MessagePort
  readonly mailState: Int32Array<SharedArrayBuffer>
  readonly directReads: DirectReadRing
}

/** What an engine thread is to serve; the first and only message on its parent port. */
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
  readonly log: { readonly level: string; readonly file: string }
}

/** What the engine thread offers; each as the engine has it. */
export type EngineCalls = {
  /** A direct read is done that the engine waits for. */
  directReadDone(): void
  directReadFailed(slot: number, error: CrossingError): void
  statistics(): EngineStatistics
  limit(quotaBytes: number): void
  margin(bytes: number): void
  syncChanged(): Promise<void>
  flushFetched(): Promise<void>
  flush(): Promise<void>
  prefetch(record: TouchedRecord): Promise<void>
  noteDamaged(file: number, block: number): void
  starting(): void
  settled(): TouchedRecord | undefined
  /** Answers `nearFull`: the kernel has handed over what it had accepted. `turn` is the number of that call. */
  handedOver(turn: number): void
  /** Only once the mount is gone. */
  close(): Promise<void>
  /** A piece of what `readMany` asked for under this number. */
  piece(stream: number, file: number, offset: number, data: Buffer): void
}

/** What the main thread offers: the services, and ears. */
export type MainCalls = Omit<Services, 'readMany'> & {
  /** The pieces come by calls of `piece`; answered after the last. */
  readMany(stream: number, ranges: readonly FileRange[]): Promise<void>
  /** Something was changed that is not durable. Said once, and again after it was made durable. */
  changed(): void
  /** The same of something that was fetched. */
  fetched(): void
  /**
   * The write cache became near full, or no longer is: the kernel is to write these files through, or not any more.
   * `turn` counts the calls.
   */
  nearFull(turn: number, nearFull: boolean, files: Ino[]): void
  /** Has the kernel hand over what it holds of a file; answered when it has. */
  writeBack(ino: Ino): Promise<void>
  /** Answers an INTERRUPT by EAGAIN, after a while. Answered itself at once. */
  retryInterrupt(low: number, high: number): void
  /** The mount is gone, whoever took it away. */
  unmounted(): void
}
