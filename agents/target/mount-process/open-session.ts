/** What of a session lies on this machine's disk beside the backup's tree: the journal and the fetched store, opened. */
import { writeFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { BaseTree } from '../filesystem/base-tree.ts'
import { type FetchedIndex, openFetchedIndex } from '../filesystem/fetched/fetched-index.ts'
import { fetchedStoreKey } from '../filesystem/fetched/fetched-stores.ts'
import { laterDatabases, newestTouched, withOtherDatabases } from '../filesystem/fetched/likely-touched.ts'
import { loadTouched, saveTouched, type TouchedRecord } from '../filesystem/fetched/touched-record.ts'
import { openJournal } from '../filesystem/journal.ts'
import { type FailedReads, failedReads } from './failed-reads.ts'
import { localServices } from './local-services.ts'
import { cachePaths, type MountSpec } from './mount-spec.ts'
import type { MountSource } from './run-mount-process.ts'
import type { Serving } from './serving.ts'

export interface OpenSession {
  readonly serving: Serving
  readonly failedReads: FailedReads
  /** What an earlier publish of the instance touched, or what is likely to be touched where there was none. */
  touched(): Promise<TouchedRecord | undefined>
  /** @throws the error of the file system */
  keepTouched(record: TouchedRecord): Promise<void>
  /** Only once the engine is closed. */
  close(): void
}

/** @throws HowdahError `cache_unusable` */
export async function openSession(
  spec: MountSpec,
  tree: BaseTree,
  source: MountSource,
  logger: Logger,
): Promise<OpenSession> {
  const journal = openJournal(`${spec.cachePath}/journal.sqlite`)
  const store = await openStore(spec, tree, logger)
  const { backup, fetched: stores } = spec
  const failed = failedReads(source)
  const paths = cachePaths(spec.cachePath)
  // Now: serving takes the tree away.
  const databases = laterDatabases(tree)

  return {
    serving: {
      spec,
      tree,
      journalState: journal.load(),
      fetched: store?.state,
      services: localServices({
        source,
        journal,
        fetched: store,
        readDeadlineMs: spec.readDeadlineMs,
        readyWal: {
          directory: paths.readyWal,
          drafts: paths.walDrafts,
          owner: spec.owner,
          reserveBytes: spec.reserveBytes,
          logger,
        },
        onFailedRead: failed.add,
      }),
    },
    failedReads: failed,
    async touched() {
      if (backup === undefined || stores === undefined) return undefined
      const own = await loadTouched(stores.directory, backup.repository, backup.instance)
      if (own !== undefined) return own
      const others = await newestTouched(stores.directory)
      return others && withOtherDatabases(others, databases)
    },
    async keepTouched(record) {
      if (backup === undefined || stores === undefined) return
      await saveTouched(stores.directory, backup.repository, backup.instance, record)
    },
    close() {
      journal.close()
      store?.close()
    },
  }
}

async function openStore(
  { backup, cachePath, fetched, reserveBytes }: MountSpec,
  tree: BaseTree,
  logger: Logger,
): Promise<FetchedIndex | undefined> {
  if (backup === undefined || fetched === undefined || fetched.budgetBytes === 0) return undefined
  const key = fetchedStoreKey({ ...backup, fingerprint: tree.fingerprint() })
  await writeFile(cachePaths(cachePath).fetchedKey, key, { mode: 0o600 })
  return openFetchedIndex({
    root: fetched.directory,
    key,
    budgetBytes: fetched.budgetBytes,
    // Fetched blocks give way before changes have to.
    reserveBytes: 2 * reserveBytes,
    logger,
  })
}
