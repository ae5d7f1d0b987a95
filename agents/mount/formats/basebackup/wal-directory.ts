/**
 * WAL of backups by pg_basebackup: a directory of segments as pg_receivewal or a simple archive_command writes it, and
 * WAL in the backup itself, in its pg_wal or in tar archives.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { type AllowedRoots, resolveIfExists } from '../../decode/allowed-roots.ts'
import { type Compression, isSystemError, type StoredFile } from '../../decode/stored-file.ts'
import type { WalListing } from '../../repository.ts'
import { hasSegment, joinListings, walListing } from '../../wal-listing.ts'
import { createDirectoryListingCache } from '../directory-listing-cache.ts'
import { mapConcurrently } from '../map-concurrently.ts'
import type { TarIndexes } from '../tar/tar-index.ts'
import type { WalLocator } from '../wal-files.ts'
import { memberFile } from './copy.ts'
import { classifyNames, isSearched, type Listed, remarksOn, unreadableOf } from './wal-names.ts'

const EXTENSIONS: readonly (Compression | undefined)[] = [undefined, 'gz', 'lz4', 'zst', 'bz2']

/** A place that has WAL files. */
export interface WalSource {
  /** @param suffix `.partial` for a partial segment `name` */
  look(name: string, suffix: '' | '.partial'): Promise<StoredFile | undefined>
  list(): Promise<WalListing>
}

/**
 * @param own WAL in the backup. It comes second: the last segment of a streamed backup ends with the backup, the
 *   archive has all of it
 */
export function combineWalSources(archive: WalSource | undefined, own: WalSource): WalLocator {
  if (archive === undefined) return { locate: (name) => own.look(name, ''), list: () => own.list() }
  /** The backup's pg_wal may be a link that must not be followed: with an archive that is no failure. */
  async function unlessForbidden<T>(work: Promise<T>, otherwise: (error: HowdahError) => T): Promise<T> {
    try {
      return await work
    } catch (error) {
      if (error instanceof HowdahError && error.code === 'configuration') return otherwise(error)
      throw error
    }
  }
  return {
    async locate(name) {
      const found = await archive.look(name, '')
      if (found !== undefined && (await plainBytes(found)) === undefined) return found
      const carried = await unlessForbidden(own.look(name, ''), () => undefined)
      if (found === undefined) return carried ?? archive.look(name, '.partial')
      return (await isShorter(found, carried)) ? carried : found
    },
    async list() {
      const carried = unlessForbidden(own.list(), ({ message }) => walListing([], '', [message]))
      return joinListings(await Promise.all([archive.list(), carried]))
    },
  }
}

/** Bytes of a file that is stored uncompressed, in a directory or a tar archive; undefined where only decoding shows. */
async function plainBytes({ transforms, container, size, region }: StoredFile): Promise<number | undefined> {
  if (transforms.length > 0 || container !== undefined) return undefined
  return size ?? region.length ?? (await statFile(region.path))?.size
}

/** A server that ends while it archives leaves a part of a segment; the backup may contain all of it. */
async function isShorter(archived: StoredFile, carried: StoredFile | undefined): Promise<boolean> {
  const [one, other] = await Promise.all([
    plainBytes(archived),
    carried === undefined ? undefined : plainBytes(carried),
  ])
  return one !== undefined && other !== undefined && one < other
}

interface DirectoryOptions {
  readonly roots: AllowedRoots
  readonly directory: string
  readonly instance: string
  /** The configured archive must exist, and may have subdirectories; a backup's own WAL need not exist. */
  readonly isArchive: boolean
}

export function walDirectory({ roots, directory, instance, isArchive }: DirectoryOptions): WalSource {
  const known = new Map<string, { readonly file: StoredFile; readonly mtimeMs: number }>()
  const listings = createDirectoryListingCache(classifyNames)

  /** All directories that may hold segments, the archive's root first. @throws HowdahError `repository_unavailable` */
  async function listed(): Promise<readonly (readonly [directory: string, listing: Listed])[]> {
    const place = await reading(resolveIfExists(roots, directory), directory)
    const top = place === undefined ? undefined : await reading(listings.of(place), directory)
    if (top === undefined) {
      if (!isArchive) return []
      throw new HowdahError(
        'repository_unavailable',
        `${directory}, the walPath of ${instance}, is not there: without it nothing after the end of a backup can be recovered; mount it, or correct walPath`,
        { retryable: false },
      )
    }
    if (!isArchive) return [[directory, top]]
    const below = top.directories.map((name) => join(directory, name))
    const found = await mapConcurrently(
      below,
      async (path) => [path, await reading(listings.of(path), path)] as const,
    )
    return [
      [directory, top],
      ...found.flatMap(([path, listing]) => (listing === undefined ? [] : [[path, listing] as const])),
    ]
  }

  async function lookIn(where: string, name: string, suffix: string): Promise<StoredFile | undefined> {
    for (const extension of EXTENSIONS) {
      const path = join(where, name + (extension === undefined ? '' : `.${extension}`) + suffix)
      const found = await reading(statFile(path), path)
      if (found === undefined) continue
      // A partial segment grows: what is known of it is valid only while its mtime stays the same.
      const before = known.get(path)
      if (before?.mtimeMs === found.mtimeMs) return before.file
      const file: StoredFile = {
        region: { ...roots, path, offset: 0, length: undefined, wholeFile: true },
        transforms: extension === undefined ? [] : [{ kind: 'decompress', compression: extension }],
        size: undefined,
        description: `WAL file ${name} of ${instance}`,
      }
      known.set(path, { file, mtimeMs: found.mtimeMs })
      return file
    }
    return undefined
  }

  const hasName = ({ wal }: Listed, name: string) =>
    name.endsWith('.history')
      ? wal.histories.includes(Number.parseInt(name.slice(0, 8), 16))
      : hasSegment(wal, name.slice(0, 24))

  return {
    async look(name, suffix) {
      if (!isArchive && (await reading(resolveIfExists(roots, directory), directory)) === undefined) {
        return undefined
      }
      const found = await lookIn(directory, name, suffix)
      if (found !== undefined) return found
      for (const [path, listing] of (await listed()).slice(1)) {
        const below =
          isSearched(path, instance) && hasName(listing, name) ? await lookIn(path, name, suffix) : undefined
        if (below !== undefined) return below
      }
      return undefined
    },
    async list() {
      const all = await listed()
      const wal = joinListings(
        all.map(([path, { wal: found }]) =>
          path === directory || isSearched(path, instance) ? found : unreadableOf(found, path),
        ),
      )
      return isArchive ? { ...wal, remarks: remarksOn(directory, wal, all) } : wal
    },
  }
}

/** @param prefix path of the WAL in the archive: empty in pg_wal.tar, `pg_wal/` in base.tar */
export function walInTar(
  archive: StoredFile,
  prefix: string,
  indexes: TarIndexes,
  instance: string,
): WalSource {
  let reading: Promise<ReadonlyMap<string, StoredFile>> | undefined

  async function read(): Promise<ReadonlyMap<string, StoredFile>> {
    const files = new Map<string, StoredFile>()
    for await (const { path, kind, offset, size } of (await indexes.open(archive)).members()) {
      const name = path.slice(prefix.length)
      if (kind !== 'file' || !path.startsWith(prefix) || name.includes('/')) continue
      files.set(name, memberFile(archive, offset, size, `WAL file ${name} of ${instance}`))
    }
    return files
  }
  const all = () => {
    reading ??= read()
    reading.catch(() => {
      reading = undefined
    })
    return reading
  }
  return {
    look: async (name, suffix) => (await all()).get(name + suffix),
    list: async () => walListing((await all()).keys(), archive.region.path),
  }
}

async function statFile(
  path: string,
): Promise<{ readonly mtimeMs: number; readonly size: number } | undefined> {
  try {
    const found = await stat(path)
    return found.isFile() ? found : undefined
  } catch (error) {
    if (isSystemError(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined
    throw error
  }
}

async function reading<T>(work: Promise<T>, path: string): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!isSystemError(error)) throw error
    throw new HowdahError('repository_unavailable', `${path} cannot be read: ${error.code}`, { cause: error })
  }
}
