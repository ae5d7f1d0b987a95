/** An engine that serves a mount, as the rest of the mount process sees it, independent of its thread. */

import type { JournalState } from '../../filesystem/durability/journal.ts'
import type { EngineStatistics } from '../../filesystem/engine.ts'
import type { FetchedState } from '../../filesystem/fetched/fetched-index.ts'
import type { TouchedRecord } from '../../filesystem/fetched/touched-record.ts'
import type { SpaceQuotas } from '../../filesystem/space/change-quota.ts'
import type { SpaceUsage } from '../../filesystem/space/space.ts'
import type { BaseTree } from '../../filesystem/tree/base-tree.ts'
import type { Measurements } from '../measurements.ts'
import type { MountSpec } from '../mount-spec.ts'
import type { LocalServices } from '../services/local-services.ts'

/** Everything an engine needs. */
export interface Serving {
  readonly spec: MountSpec
  readonly tree: BaseTree
  readonly journalState: JournalState
  readonly fetched: FetchedState | undefined
  readonly services: LocalServices
  readonly measurements: Pick<Measurements, 'fuse' | 'directReads'>
}

export interface ServingEngine {
  /** Resolves when the mount is gone, however it was unmounted. Rejects when the engine ended although it is still mounted. */
  readonly ended: Promise<void>
  statistics(): Promise<EngineStatistics>
  usage(): Promise<SpaceUsage>
  /** As `Engine.limit`. */
  limit(quotas: SpaceQuotas): Promise<SpaceUsage>
  /** Makes every write received so far durable. */
  flush(): Promise<void>
  /** As `Engine.prefetch`. */
  prefetch(record: TouchedRecord): Promise<void>
  /** As `Engine.noteDamaged`. */
  noteDamaged(file: number, block: number): Promise<void>
  /** As `Engine.starting`. */
  starting(): Promise<void>
  /** As `Engine.settled`. */
  settled(): Promise<TouchedRecord | undefined>
  /** @throws HowdahError `mount_failed` when files are in use */
  unmount(): Promise<void>
  /** Makes everything durable and closes the write cache, once the mount is gone. */
  close(): Promise<void>
}
