/** Opens the local state of a session besides the backup's tree: the journal and the fetched store. */
import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { HowdahError } from '../../../../messages/errors.ts'
import { type JournalState, openJournal } from '../../filesystem/durability/journal.ts'
import { type ChangeFindings, verifyChanges } from '../../filesystem/durability/verify-changes.ts'
import { type FetchedIndex, openFetchedIndex } from '../../filesystem/fetched/fetched-index.ts'
import { fetchedStoreKey } from '../../filesystem/fetched/fetched-stores.ts'
import { laterDatabases, newestTouched, withOtherDatabases } from '../../filesystem/fetched/likely-touched.ts'
import { loadTouched, saveTouched, type TouchedRecord } from '../../filesystem/fetched/touched-record.ts'
import type { BaseTree } from '../../filesystem/tree/base-tree.ts'
import { keepFromAgeing } from '../../room/ageing-lock.ts'
import type { Measurements } from '../measurements.ts'
import type { MountSource } from '../mount-source.ts'
import { cachePaths, type MountSpec } from '../mount-spec.ts'
import { localServices } from '../services/local-services.ts'
import type { Serving } from '../threads/serving.ts'
import { type FailedReads, failedReads } from './failed-reads.ts'

export interface OpenSession {
  readonly serving: Serving
  readonly failedReads: FailedReads
  /** The blocks an earlier publish of the instance touched; where there was none, those likely to be touched. */
  touched(): Promise<TouchedRecord | undefined>
  /** @throws the error of the file system */
  keepTouched(record: TouchedRecord): Promise<void>
  /** Checks the write cache against its journal. */
  verify(): ChangeFindings
  /** Only once the engine is closed. */
  close(): void
}

/** @throws HowdahError `cache_unusable` */
export async function openSession(
  spec: MountSpec,
  tree: BaseTree,
  source: MountSource,
  measurements: Measurements,
  logger: Logger,
): Promise<OpenSession> {
  const journal = openJournal(`${spec.cachePath}/journal.sqlite`, spec.journal)
  const journalState = journal.load()
  requireLocalFiles(spec.cachePath, journalState)
  const store = await openStore(spec, tree, logger)
  const { backup, fetched: stores } = spec
  const failed = failedReads(source)
  const paths = cachePaths(spec.cachePath)
  // Before serving, which transfers the tree to the engine thread.
  const databases = laterDatabases(tree)

  return {
    serving: {
      spec,
      tree,
      journalState,
      fetched: store?.state,
      services: localServices({
        source,
        journal,
        cachePath: spec.cachePath,
        fetched: store,
        readDeadlineMs: spec.readDeadlineMs,
        readyWal: {
          directory: paths.readyWal,
          drafts: paths.walDrafts,
          owner: spec.owner,
          reserveBytes: spec.reserveBytes,
          logger,
        },
        onWalWanted: measurements.walWanted,
        onFailedRead: failed.add,
      }),
      measurements,
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
    verify: () => verifyChanges(spec.cachePath, journal),
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
  const index = openFetchedIndex({
    root: fetched.directory,
    key,
    budgetBytes: fetched.budgetBytes,
    // Fetched blocks are no longer kept before changes are refused.
    reserveBytes: 2 * reserveBytes,
    logger,
  })
  if (index !== undefined) keepFromAgeing(`${fetched.directory}/${key}`)
  return index
}

/** Reads of missing changes would fail, so the mount is refused. @throws HowdahError `cache_unusable` when a file with changes is missing */
function requireLocalFiles(cachePath: string, { contents }: JournalState): void {
  const directory = `${cachePath}/files`
  const changed = contents.filter(({ row }) => row.changed > 0)
  if (changed.length === 0) return
  const present = new Set(existsSync(directory) ? readdirSync(directory) : [])
  const missing = changed.filter(({ row }) => !present.has(String(row.ino)))
  if (missing.length === 0) return
  throw new HowdahError(
    'cache_unusable',
    `${missing.length} of the ${changed.length} files with changes are gone from ${directory}: restore the files and retry the session, or publish it again without the changes`,
  )
}
