/**
 * The segments that the directories of a WAL archive hold, by `<first 16 digits>` directory; read again only where a
 * directory changed: an archive has thousands to which nothing is added any more.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { WalListing } from '../../repository.ts'
import { joinListings, walListing } from '../../wal-listing.ts'
import { setBounded } from './set-bounded.ts'

/** `<segment>[.partial]-<sha1>[.ext]` (src/command/archive/common.c). */
export const ENTRY = /^([0-9A-F]{24})(\.partial)?-([0-9a-f]{40})(?:\.(gz|zst|lz4|bz2))?$/
/** A listing is valid while its directory's mtime stays the same, unless the mtime was so recent that it can hide a change. */
const SETTLED_MS = 2000
/** Directories of which the names of files are kept; those of one are a few tens of KiB. */
const DIRECTORIES_KEPT = 256

/** What identifies a directory in its present state. */
interface Stamp {
  readonly mtimeMs: number
  readonly ino: number
  readonly readAt: number
}

/** Kept of every directory, so that listing them again reads only those that changed. */
type Listing = Stamp & { readonly wal: WalListing }

/** Names of all files of each full segment and, under `<segment>.partial`, of each partial one. */
export type SegmentEntries = ReadonlyMap<string, readonly string[]>
type Entries = Stamp & { readonly entries: SegmentEntries }

export interface SegmentDirectories {
  /** What a directory holds. Errors of system calls as they are. */
  list(name: string): Promise<WalListing>
  /** The files of a directory's segments. Errors of system calls as they are. */
  entries(name: string): Promise<SegmentEntries>
  /** Forgets the directories that are not among `names`. */
  retain(names: readonly string[]): void
}

export function createSegmentDirectories(archive: string): SegmentDirectories {
  const listings = new Map<string, Listing>()
  const recent = new Map<string, Entries>()

  async function isUnchanged(name: string, before: Stamp): Promise<boolean> {
    const { mtimeMs, ino } = await stat(join(archive, name))
    return before.mtimeMs === mtimeMs && before.ino === ino && before.readAt - mtimeMs > SETTLED_MS
  }

  async function read(name: string): Promise<Entries & Listing> {
    const path = join(archive, name)
    const readAt = Date.now()
    const { mtimeMs, ino } = await stat(path)
    const entries = new Map<string, string[]>()
    const unknown: string[] = []
    for (const entry of await readdir(path)) {
      const [, segment, partial] = ENTRY.exec(entry) ?? []
      if (segment === undefined) {
        if (/^[0-9A-F]{24}-/.test(entry)) unknown.push(entry)
        continue
      }
      const key = segment + (partial ?? '')
      const known = entries.get(key)
      if (known === undefined) entries.set(key, [entry])
      else known.push(entry)
    }
    const stamp = { mtimeMs, ino, readAt }
    const listing = {
      ...stamp,
      wal: joinListings([walListing(entries.keys(), path), walListing(unknown, path)]),
    }
    listings.set(name, listing)
    setBounded(recent, name, { ...stamp, entries }, DIRECTORIES_KEPT)
    return { ...listing, entries }
  }

  return {
    async list(name) {
      const known = listings.get(name)
      return known !== undefined && (await isUnchanged(name, known)) ? known.wal : (await read(name)).wal
    },
    async entries(name) {
      const known = recent.get(name)
      if (known === undefined || !(await isUnchanged(name, known))) return (await read(name)).entries
      setBounded(recent, name, known, DIRECTORIES_KEPT)
      return known.entries
    },
    retain(names) {
      const kept = new Set(names)
      for (const name of listings.keys()) if (!kept.has(name)) listings.delete(name)
    },
  }
}
