/** Reads stored files that need no decoding directly in the repository, after each was checked once. */
import { checksumOf } from '../decode/checksum.ts'
import { type DescriptorCache, readAt, readAtSync } from '../decode/descriptor-cache.ts'
import { damaged, type StoredFile } from '../decode/stored-file.ts'
import { createQuickReads } from './quick-reads.ts'

export interface InPlaceReader {
  /** `length` bytes at `offset`; fewer only where the file ends. @throws HowdahError `backup_damaged`; errors of read(2) as they are */
  read(file: StoredFile, offset: number, length: number): Promise<Buffer>
}

export interface InPlaceDependencies {
  readonly descriptors: DescriptorCache
  /** Bytes of the stored file, which are those that the backup lists. */
  readonly storedBytes: (file: StoredFile) => Promise<number>
  /** All plain bytes, verified against the checksum. */
  readonly whole: (file: StoredFile) => Promise<Buffer>
  /** Files up to this size are verified as a whole before the first read. */
  readonly checkedBytes: number
}

export function createInPlaceReader(dependencies: InPlaceDependencies): InPlaceReader {
  const { descriptors, storedBytes, whole, checkedBytes } = dependencies
  const quick = createQuickReads()
  /** Sizes of the files that were checked. */
  const checked = new WeakMap<StoredFile, number>()

  async function check(file: StoredFile): Promise<number> {
    const stored = await storedBytes(file)
    // Cheap to verify as a whole; among these are the files for which PostgreSQL has no page checksums.
    if (checksumOf(file) !== undefined && stored <= checkedBytes) await whole(file)
    else if (file.size !== undefined && file.size !== stored) {
      throw damaged(file, `it has ${stored} bytes instead of ${file.size}`)
    }
    checked.set(file, stored)
    return stored
  }

  return {
    async read(file, offset, length) {
      const { path, offset: start } = file.region
      const size = checked.get(file) ?? (await check(file))
      const expected = Math.max(0, Math.min(length, size - offset))
      const opened = descriptors.peek(path)
      const read =
        (opened?.local && quick.attempt(expected, () => readAtSync(opened.fd, start + offset, expected))) ||
        (await descriptors.use(file.region, path, ({ fd }) => readAt(fd, start + offset, expected)))
      if (read.length !== expected) throw damaged(file, `it ends before ${offset + expected}`)
      return read
    },
  }
}
