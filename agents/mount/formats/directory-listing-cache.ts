/**
 * Summaries of the directories of an archive, read again only where a directory changed: an archive has thousands of
 * directories to which nothing is added any more.
 */
import type { Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { isSystemError } from '../decode/stored-file.ts'

/** A listing is valid while its directory's mtime stays the same, unless the mtime was so recent that it can hide a change. */
const SETTLED_MS = 2000

export interface DirectoryListingCache<T> {
  /** Undefined: the directory does not exist. Errors of system calls as they are. */
  of(directory: string): Promise<T | undefined>
}

/** @param summarize computes from the entries what is kept */
export function createDirectoryListingCache<T>(
  summarize: (entries: readonly Dirent[], directory: string) => T,
): DirectoryListingCache<T> {
  const known = new Map<
    string,
    { readonly mtimeMs: number; readonly ino: number; readonly readAt: number; readonly listing: T }
  >()
  return {
    async of(directory) {
      try {
        const { mtimeMs, ino } = await stat(directory)
        const before = known.get(directory)
        if (before?.mtimeMs === mtimeMs && before.ino === ino && before.readAt - mtimeMs > SETTLED_MS) {
          return before.listing
        }
        const readAt = Date.now()
        const listing = summarize(await readdir(directory, { withFileTypes: true }), directory)
        known.set(directory, { mtimeMs, ino, readAt, listing })
        return listing
      } catch (error) {
        if (isSystemError(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined
        throw error
      }
    },
  }
}
