/**
 * WAL of a Barman server: `wals/<timeline and log>/<segment>`, compressed or not with no extension that says so,
 * history files in `wals/` itself; beside it what was received and not archived yet, in `streaming/` and `incoming/`
 * (barman/xlog.py, compression.py, config.py). xlog.db, Barman's own list of it all, is not trusted.
 */
import { lstat, open } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { type AllowedRoots, resolveIfExists } from '../../decode/allowed-roots.ts'
import { type Compression, isSystemError, type StoredFile } from '../../decode/stored-file.ts'
import type { WalListing } from '../../repository.ts'
import { joinListings, walListing } from '../../wal-listing.ts'
import { createDirectoryListingCache } from '../directory-listing-cache.ts'
import { mapConcurrently } from '../map-concurrently.ts'
import type { WalLocator } from '../wal-files.ts'
import type { ServerDirectories } from './server-directories.ts'

const MAGIC_BYTES = 10

interface Listing {
  readonly wal: WalListing
  readonly directories: readonly string[]
}

interface Known {
  readonly mtimeMs: number
  readonly size: number
  readonly file: StoredFile
}

export function openBarmanWal(
  { wals, received }: ServerDirectories,
  roots: AllowedRoots,
  server: string,
): WalLocator {
  const listings = createDirectoryListingCache((entries, directory): Listing => {
    const names = entries.map(({ name }) => name)
    return {
      wal: walListing(
        names.map((name) => name.replace(/\.gz(?=$|\.partial$)/, '')),
        directory,
      ),
      directories: names.filter((name) => /^[0-9A-F]{16}$/.test(name)),
    }
  })
  const known = new Map<string, Known>()

  async function file(path: string, name: string): Promise<StoredFile | undefined> {
    const found = await ifExists(lstat(path), path)
    if (found === undefined || !found.isFile()) return undefined
    const before = known.get(path)
    // A file that grew, or was replaced by its compressed form, is a different one.
    if (before?.mtimeMs === found.mtimeMs && before.size === found.size) return before.file
    const description = `WAL file ${name} of ${server}`
    const head = await ifExists(headOf(path), path)
    if (head === undefined) return undefined
    const compression = compressionOf(head, name, `${description} (${path})`)
    const made: StoredFile = {
      region: { ...roots, path, offset: 0, length: undefined, wholeFile: true },
      transforms: compression === undefined ? [] : [{ kind: 'decompress', compression }],
      size: undefined,
      description,
    }
    known.set(path, { mtimeMs: found.mtimeMs, size: found.size, file: made })
    return made
  }

  async function firstOf(paths: readonly string[], name: string): Promise<StoredFile | undefined> {
    for (const path of paths) {
      const found = await file(path, name)
      if (found !== undefined) return found
    }
    return undefined
  }

  async function search(name: string): Promise<StoredFile | undefined> {
    const archived = name.endsWith('.history') ? join(wals, name) : join(wals, name.slice(0, 16), name)
    const whole = [
      archived,
      ...received.flatMap((directory) => [join(directory, name), join(directory, `${name}.gz`)]),
    ]
    if (name.length !== 24) return firstOf(whole, name)
    const partial = [archived, ...received.map((directory) => join(directory, name))].flatMap((path) => [
      `${path}.partial`,
      `${path}.gz.partial`,
    ])
    return firstOf([...whole, ...partial], name)
  }

  return {
    async locate(name) {
      const found = await search(name)
      // Recovery treats a missing segment as the end of the archive, so that the archive itself must exist.
      if (found !== undefined || (await listed(wals)) !== undefined) return found
      throw new HowdahError('repository_unavailable', `${wals}, the WAL archive of ${server}, is not there`)
    },
    async list() {
      const top = await listed(wals)
      const below = [...received, ...(top?.directories ?? []).map((name) => join(wals, name))]
      const found = await mapConcurrently(below, listed)
      const here = top?.wal ?? walListing([], wals, [`${wals}, the WAL archive of ${server}, is not there`])
      return joinListings([here, ...found.flatMap((one) => (one === undefined ? [] : [one.wal]))])
    },
  }

  /** Undefined: it does not exist. */
  async function listed(directory: string): Promise<Listing | undefined> {
    const place = await ifExists(resolveIfExists(roots, directory), directory)
    return place === undefined ? undefined : ifExists(listings.of(place), directory)
  }

  async function ifExists<T>(work: Promise<T>, path: string): Promise<T | undefined> {
    try {
      return await work
    } catch (error) {
      if (!isSystemError(error)) throw error
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
      throw new HowdahError(
        'repository_unavailable',
        `the WAL archive of ${server} cannot be read: ${error.code} on ${path}`,
        { cause: error },
      )
    }
  }
}

async function headOf(path: string): Promise<Buffer> {
  const handle = await open(path)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

const MAGICS: readonly (readonly [magic: string, compression: Compression | undefined, name: string])[] = [
  ['1f8b08', 'gz', 'gzip'],
  ['425a68', 'bz2', 'bzip2'],
  ['28b52ffd', 'zst', 'zstd'],
  ['04224d18', 'lz4', 'lz4'],
  ['fd377a585a00', undefined, 'xz'],
  ['ff060000734e61507059', undefined, 'snappy'],
]

/**
 * Determined by the first bytes, as Barman does it; undefined: not compressed.
 * @throws HowdahError `backup_unsupported`, which says what would be necessary to decode it
 */
function compressionOf(head: Buffer, name: string, where: string): Compression | undefined {
  const hex = head.toString('hex')
  const found = MAGICS.find(([magic]) => hex.startsWith(magic))
  if (found !== undefined) {
    const [, compression, title] = found
    if (compression !== undefined) return compression
    throw new HowdahError(
      'backup_unsupported',
      `${where} is compressed by ${title}, which Howdah cannot decode; set "compression" of this server to gzip, bzip2, zstd, lz4 or none, or decompress it`,
    )
  }
  // Segments begin with XLOG_PAGE_MAGIC, 0xD0.. or 0xD1.. little-endian; the others are text.
  if (!/^[0-9A-F]{24}(\.partial)?$/.test(name) || head.length < 2) return undefined
  if ((head[1] ?? 0) >> 4 === 0xd) return undefined
  throw new HowdahError(
    'backup_unsupported',
    `${where} begins with ${hex}, which is neither WAL nor a compression that Howdah knows (gzip, bzip2, zstd, lz4): if custom compression or encryption made it, it takes its program to read it`,
  )
}
