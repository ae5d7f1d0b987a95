/**
 * WAL of an opened backup, for every format: names, sizes and bytes of decoded segments; the next segments are
 * prefetched. The format's `WalLocator` says where a segment is stored.
 */
import { stat } from 'node:fs/promises'
import { HowdahError } from '../../../messages/errors.ts'
import type { StoredWal } from '../../dataplane/backup-source.ts'
import type { StoredFile } from '../decode/stored-file.ts'
import type { WalArchive, WalListing } from '../repository.ts'
import type { Spool } from '../spool/spool.ts'
import { createWalPrefetch } from '../wal/wal-prefetch.ts'

const WAL_NAME = /^([0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history)$/

export interface WalLocator {
  /** The stored file of a segment, `.partial`, `.backup` or `.history` file; undefined when there is none. */
  locate(name: string): Promise<StoredFile | undefined>
  /** @throws HowdahError `repository_unavailable` */
  list(): Promise<WalListing>
}

export interface WalFiles {
  size(name: string): Promise<number | undefined>
  read(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>
  /** As in `BackupSource`. */
  stored(name: string): Promise<StoredWal | undefined>
  readStored(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>
}

export function createWalFiles(locator: WalLocator, spool: Spool, instance: string): WalFiles {
  const locate = async (name: string) => (WAL_NAME.test(name) ? locator.locate(name) : undefined)
  const prefetch = createWalPrefetch(locate, spool.wal)

  /** A read follows a request for the size: the segment is decoded only once for both. */
  async function using<T>(name: string, take: (contents: Buffer) => T): Promise<T | undefined> {
    const file = await locate(name)
    if (file === undefined) return undefined
    return spool.wal.use(file, (contents) => {
      prefetch.requested(name, contents)
      return take(contents)
    })
  }

  const missing = (name: string) =>
    new HowdahError('wal_missing', `the WAL archive of ${instance} has no ${name}`)

  return {
    size: (name) => using(name, ({ length }) => length),
    async read(name, offset, length, signal) {
      signal?.throwIfAborted()
      const bytes = await using(name, (contents) => Buffer.from(contents.subarray(offset, offset + length)))
      signal?.throwIfAborted()
      if (bytes !== undefined) return bytes
      throw missing(name)
    },
    async stored(name) {
      const file = await locate(name)
      const compression = file && storedCompression(file)
      if (file === undefined || compression === undefined) return undefined
      return { bytes: await spool.storedBytes(file), compression, sha1: file.sha1 }
    },
    async readStored(name, offset, length, signal) {
      signal?.throwIfAborted()
      const file = await locate(name)
      signal?.throwIfAborted()
      if (file === undefined || storedCompression(file) === undefined) throw missing(name)
      return spool.readStored(file, offset, length)
    },
  }
}

/** The compression of a file that is served as it is stored; undefined: it is decoded here. */
function storedCompression({ transforms, container }: StoredFile): StoredWal['compression'] | undefined {
  const [transform] = transforms
  if (transforms.length !== 1 || transform?.kind !== 'decompress' || container !== undefined) return undefined
  const { compression } = transform
  return compression === 'gz' || compression === 'zst' ? compression : undefined
}

/** WAL for planning instead of recovery: in its present state, and without prefetching. */
export function createWalArchive(id: string, locator: WalLocator, spool: Spool): WalArchive {
  const locate = async (name: string) => (WAL_NAME.test(name) ? locator.locate(name) : undefined)
  return {
    id,
    list: () => locator.list(),
    async read(name) {
      const file = await locate(name)
      // A new object: the spool does not look again at one that it knows.
      return file === undefined ? undefined : spool.whole({ ...file })
    },
    async stat(name) {
      const file = await locate(name)
      const found = file === undefined ? undefined : await stat(file.region.path).catch(() => undefined)
      if (file === undefined || found === undefined) return undefined
      const { ino, size, mtimeMs } = found
      return {
        identity: JSON.stringify([file.region.path, file.region.offset, ino, size, mtimeMs]),
        storedAt: mtimeMs,
      }
    },
  }
}
