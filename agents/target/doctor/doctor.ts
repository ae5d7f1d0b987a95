/**
 * The query `caches.verify`, which `howdah doctor` sends: verifies the checksums of what this target stores for sessions.
 * Corrupt fetched blocks are dropped from their store, and fetched again when they are needed; an inconsistent store is
 * discarded, but never while a session uses it. Write caches hold the only copy of changes, so they are never modified:
 * their damage is only reported.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { DoctorItem } from '../../../messages/definitions.ts'
import { errorBody } from '../../../messages/errors.ts'
import { readJournal } from '../filesystem/durability/journal.ts'
import { verifyChanges } from '../filesystem/durability/verify-changes.ts'
import { openFetchedIndex } from '../filesystem/fetched/fetched-index.ts'
import { discardStoreNow, isStoreKey } from '../filesystem/fetched/fetched-stores.ts'
import { findMountProcess } from '../mount-process/agent/mount-process.ts'
import { cachePaths } from '../mount-process/mount-spec.ts'
import { fetchedDirectory } from '../room/fetched-budget.ts'
import { readSession } from '../session/published-session.ts'
import { verifyStore } from './verify-store.ts'

export interface DoctorOptions {
  readonly cacheRoot: string
  /** Blocks that are not verified by then are left out. */
  readonly timeLimitMs: number
  readonly logger: Logger
}

/** Problems that are reported of one store or cache. */
const MOST_PROBLEMS = 20

export async function verifyCaches({ cacheRoot, timeLimitMs, logger }: DoctorOptions): Promise<DoctorItem[]> {
  const deadline = performance.now() + timeLimitMs
  const caches = await sessionCaches(cacheRoot)
  const items: DoctorItem[] = []
  for (const cache of caches) items.push(await examineCache(cache))
  const stores = fetchedDirectory(cacheRoot)
  for (const key of (await names(stores)).filter(isStoreKey)) {
    const users = caches.filter((cache) => cache.storeKey === key)
    items.push(await examineStore(stores, key, users, deadline, logger))
  }
  return items
}

interface SessionCache {
  readonly session: string
  readonly path: string
  readonly storeKey: string | undefined
  readonly isMounted: boolean
}

async function sessionCaches(cacheRoot: string): Promise<SessionCache[]> {
  const found: SessionCache[] = []
  for (const session of await names(cacheRoot)) {
    const path = `${cacheRoot}/${session}`
    if (path === fetchedDirectory(cacheRoot)) continue
    // A directory with neither is not a session's, or is being created.
    if (readSession(path) === undefined && !existsSync(journalPath(path))) continue
    const storeKey = await readFile(cachePaths(path).fetchedKey, 'utf8').catch(() => undefined)
    found.push({ session, path, storeKey, isMounted: (await findMountProcess(path)) !== undefined })
  }
  return found
}

async function examineCache({ session, path }: SessionCache): Promise<DoctorItem> {
  const about = { kind: 'write-cache' as const, name: session, path, sessions: [session] }
  try {
    const { bytes, problems } = await verifyCache(path)
    return { ...about, bytes, checkedBytes: bytes, ...verdict(problems) }
  } catch (error) {
    return { ...about, bytes: 0, checkedBytes: 0, ...verdict([errorBody(error).message]) }
  }
}

/** Verifies the changes in a write cache; the mount process of a mounted one does it, since only it may open the journal. */
async function verifyCache(path: string) {
  const mount = await findMountProcess(path)
  if (mount !== undefined) return mount.verify()
  const session = readSession(path)
  const journal = readJournal(journalPath(path), session?.journal)
  // The instance was never usable, so there are no changes.
  if (journal === undefined && session?.recovered !== true) return { files: 0, bytes: 0, problems: [] }
  if (journal === undefined) throw new Error(`${journalPath(path)} is gone, and with it what was changed`)
  try {
    return verifyChanges(path, journal)
  } finally {
    journal.close()
  }
}

async function examineStore(
  root: string,
  key: string,
  users: readonly SessionCache[],
  deadline: number,
  logger: Logger,
): Promise<DoctorItem> {
  const path = `${root}/${key}`
  const about = {
    kind: 'fetched-store' as const,
    name: key,
    path,
    sessions: users.map(({ session }) => session),
  }
  try {
    const { bytes, checkedBytes, wrong } = await verifyStore(path, deadline)
    const count = [...wrong.values()].reduce((sum, slots) => sum + slots.length, 0)
    if (count === 0) return { ...about, bytes, checkedBytes, verdict: 'sound', problems: [] }
    dropBlocks(root, key, wrong, logger)
    const problem = `corrupt blocks: ${count}; they are fetched again when they are needed; check the disk`
    return { ...about, bytes, checkedBytes, verdict: 'mended', problems: [problem] }
  } catch (error) {
    const problem = errorBody(error).message
    const nothing = { ...about, bytes: 0, checkedBytes: 0 }
    if (users.some(({ isMounted }) => isMounted))
      return { ...nothing, verdict: 'damaged', problems: [problem] }
    await rm(discardStoreNow(path), { recursive: true, force: true })
    logger.warn({ path, problem }, 'a store of fetched blocks was discarded')
    return { ...nothing, verdict: 'discarded', problems: [problem] }
  }
}

/** Sessions that have the store open notice it by themselves. */
function dropBlocks(
  root: string,
  key: string,
  wrong: ReadonlyMap<number, readonly number[]>,
  logger: Logger,
): void {
  const index = openFetchedIndex({ root, key, budgetBytes: 0, reserveBytes: 0, logger })
  try {
    for (const [file, slots] of wrong) index?.drop(file, slots)
  } finally {
    index?.close()
  }
}

function verdict(problems: readonly string[]): Pick<DoctorItem, 'verdict' | 'problems'> {
  return { verdict: problems.length === 0 ? 'sound' : 'damaged', problems: problems.slice(0, MOST_PROBLEMS) }
}

const journalPath = (cachePath: string) => `${cachePath}/journal.sqlite`

function names(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}
