/**
 * The fetched stores of a target: local copies of blocks of backups, one `<root>/<key>/` per backup. Names them,
 * measures them and removes the least recently used. fetched-index.ts knows what is inside one.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readdirSync, renameSync, statSync } from 'node:fs'
import { readdir, rename, rm, stat } from 'node:fs/promises'

/** Version of the store's format; it is part of the key, so another version is another store. */
export const STORE_FORMAT = 2

/** Identifies the contents of one backup. */
export interface StoreIdentity {
  readonly repository: string
  readonly instance: string
  readonly label: string
  /** Of the backup's file tree, so that a reused label gets another store. */
  readonly fingerprint: string
}

const KEY = /^[0-9a-f]{40}$/

/** Whether a name below the root of all stores is the key of one. */
export function isStoreKey(name: string): boolean {
  return KEY.test(name)
}

const DISCARDED = /^\.discarded-/

/** The name of a backup's store. */
export function fetchedStoreKey({ repository, instance, label, fingerprint }: StoreIdentity): string {
  return createHash('sha256')
    .update(JSON.stringify([STORE_FORMAT, repository, instance, label, fingerprint]))
    .digest('hex')
    .slice(0, 40)
}

/** Bytes that all stores below `root` use on disk; 0 when there is none. */
export function fetchedBytesOnDisk(root: string): number {
  let bytes = 0
  for (const key of listed(() => readdirSync(root))) {
    if (!KEY.test(key)) continue
    for (const name of listed(() => readdirSync(`${root}/${key}`))) {
      const found = statSync(`${root}/${key}/${name}`, { throwIfNoEntry: false })
      // Of stat(2): in units of 512 bytes, whatever the file system's block is.
      bytes += (found?.blocks ?? 0) * 512
    }
  }
  return bytes
}

/**
 * Removes the least recently used stores that no session uses, until all together use at most `budgetBytes`. A mount
 * process can still read files that it has open. @returns the keys that were removed
 */
export async function trimFetchedStores(
  root: string,
  budgetBytes: number,
  inUse: ReadonlySet<string>,
): Promise<string[]> {
  const names = await readdir(root).catch(ignoreMissing)
  await Promise.all(names.filter((name) => DISCARDED.test(name)).map((name) => remove(`${root}/${name}`)))
  const stores = await Promise.all(names.filter((name) => KEY.test(name)).map((key) => measure(root, key)))
  let total = stores.reduce((sum, { bytes }) => sum + bytes, 0)
  const removed: string[] = []
  for (const { key, bytes } of stores.sort((a, b) => a.used - b.used)) {
    if (total <= budgetBytes) break
    if (inUse.has(key)) continue
    await discardStore(`${root}/${key}`)
    total -= bytes
    removed.push(key)
  }
  return removed
}

/** Removes a store, renaming it first, so that no process can open it half removed. */
async function discardStore(directory: string): Promise<void> {
  const discarded = discardedPath(directory)
  await rename(directory, discarded).catch(ignoreMissing)
  await remove(discarded)
}

/**
 * Renames a store to be removed when stores are next trimmed.
 * @returns its path until then
 * @throws the error of the file system
 */
export function discardStoreNow(directory: string): string {
  const discarded = discardedPath(directory)
  renameSync(directory, discarded)
  return discarded
}

function discardedPath(directory: string): string {
  const slash = directory.lastIndexOf('/')
  return `${directory.slice(0, slash)}/.discarded-${randomUUID()}`
}

async function measure(root: string, key: string) {
  // Opening and closing a store updates the modification time of its directory.
  const used = (await stat(`${root}/${key}`).catch(() => undefined))?.mtimeMs ?? 0
  const names = await readdir(`${root}/${key}`).catch(ignoreMissing)
  const sizes = await Promise.all(
    names.map(async (name) => (await stat(`${root}/${key}/${name}`).catch(() => undefined))?.blocks ?? 0),
  )
  return { key, used, bytes: sizes.reduce((sum, blocks) => sum + blocks * 512, 0) }
}

function remove(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true })
}

function listed(read: () => string[]): string[] {
  try {
    return read()
  } catch (error) {
    return ignoreMissing(error)
  }
}

function ignoreMissing(error: unknown): string[] {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
  throw error
}
