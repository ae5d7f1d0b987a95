/**
 * The WAL side of an opened backup, whatever the format: names, sizes and bytes of decoded segments, with the next
 * segments decoded ahead of replay. Where a segment is stored is the format's to say.
 */
import { stat } from 'node:fs/promises'
import { HowdahError } from '../../../messages/errors.ts'
import { isGivenBack } from '../../dataplane/given-back.ts'
import type { StoredFile } from '../decode/stored-file.ts'
import type { WalArchive, WalListing } from '../repository.ts'
import type { Spool } from '../spool.ts'
import { createWalAhead } from '../wal/wal-ahead.ts'

/** For so long a file that was found is the same: it is read in many pieces, one after another. */
const FOUND_MS = 1000
const FOUND = 16

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
}

export function createWalFiles(locator: WalLocator, spool: Spool, instance: string): WalFiles {
  const locate = async (name: string) => (WAL_NAME.test(name) ? locator.locate(name) : undefined)
  const ahead = createWalAhead(locate, spool.wal)

  /** Latest last; kept in memory by nobody but the spool. */
  const found = new Map<string, { readonly contents: WeakRef<Buffer>; readonly at: number }>()

  /** Whoever asks for the size reads next: what is decoded to tell it is not decoded again. */
  async function using<T>(name: string, take: (contents: Buffer) => T): Promise<T | undefined> {
    const known = found.get(name)
    const before =
      known !== undefined && Date.now() - known.at < FOUND_MS ? known.contents.deref() : undefined
    if (before !== undefined && !isGivenBack(before)) {
      ahead.asked(name, before)
      return take(before)
    }
    const file = await locate(name)
    if (file === undefined) return undefined
    return spool.wal.use(file, (contents) => {
      found.delete(name)
      found.set(name, { contents: new WeakRef(contents), at: Date.now() })
      if (found.size > FOUND) found.delete(found.keys().next().value as string)
      ahead.asked(name, contents)
      return take(contents)
    })
  }

  return {
    size: (name) => using(name, ({ length }) => length),
    async read(name, offset, length, signal) {
      signal?.throwIfAborted()
      const bytes = await using(name, (contents) => Buffer.from(contents.subarray(offset, offset + length)))
      signal?.throwIfAborted()
      if (bytes !== undefined) return bytes
      throw new HowdahError('wal_missing', `the WAL archive of ${instance} has no ${name}`)
    },
  }
}

/** WAL for those who look at it instead of recovering with it: as it is now, and nothing decoded ahead. */
export function createWalArchive(id: string, locator: WalLocator, spool: Spool): WalArchive {
  const locate = async (name: string) => (WAL_NAME.test(name) ? locator.locate(name) : undefined)
  return {
    id,
    list: () => locator.list(),
    async read(name) {
      const file = await locate(name)
      // A new object: the spool takes what it knows of one for granted.
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
