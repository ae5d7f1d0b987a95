/** An engine that serves a mount, in whichever thread it lives, as the rest of the mount process sees it. */

import type { JournalState } from '../../filesystem/durability/journal.ts'
import type { EngineStatistics } from '../../filesystem/engine.ts'
import type { FetchedState } from '../../filesystem/fetched/fetched-index.ts'
import type { TouchedRecord } from '../../filesystem/fetched/touched-record.ts'
import type { BaseTree } from '../../filesystem/tree/base-tree.ts'
import type { MountSpec } from '../mount-spec.ts'
import type { LocalServices } from '../services/local-services.ts'

/** What an engine is made of. */
export interface Serving {
  readonly spec: MountSpec
  readonly tree: BaseTree
  readonly journalState: JournalState
  readonly fetched: FetchedState | undefined
  readonly services: LocalServices
}

export interface ServingEngine {
  /** Resolves when the mount is gone, whoever took it away. Rejects when nobody serves it any more though it is there. */
  readonly ended: Promise<void>
  statistics(): Promise<EngineStatistics>
  /** Bytes that changes may take from now on. */
  limit(quotaBytes: number): Promise<void>
  /** Makes everything durable that reached the engine. */
  flush(): Promise<void>
  /** Fetches what an earlier publish touched; resolves when all of it was asked for. */
  prefetch(record: TouchedRecord): Promise<void>
  /** As `Engine.noteDamaged`. */
  noteDamaged(file: number, block: number): Promise<void>
  /** PostgreSQL is started again, until `settled`: it gets room that others do not. */
  starting(): Promise<void>
  /** PostgreSQL has started. Ends the record of what is touched, and gives it. */
  settled(): Promise<TouchedRecord | undefined>
  /** @throws HowdahError `mount_failed` when files are in use */
  unmount(): Promise<void>
  /** Makes everything durable and closes the write cache, once the mount is gone. */
  close(): Promise<void>
}
