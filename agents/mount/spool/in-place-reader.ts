/** Stored files that need no decoding: they are read where they are, in few steps once they were checked. */
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
  /** Bytes of the stored file, after it was checked to be as long as the backup lists it. */
  readonly storedBytes: (file: StoredFile) => Promise<number>
  /** All of the file, after its checksum was checked. */
  readonly whole: (file: StoredFile) => Promise<Buffer>
  /** Files up to this size are checked as a whole before the first read. */
  readonly checkedBytes: number
}

export function createInPlaceReader(dependencies: InPlaceDependencies): InPlaceReader {
  const { descriptors, storedBytes, whole, checkedBytes } = dependencies
  const quick = createQuickReads()
  /** Bytes of the files that nothing is left to check of. */
  const checked = new WeakMap<StoredFile, number>()

  async function check(file: StoredFile): Promise<number> {
    const stored = await storedBytes(file)
    // Cheap to check as a whole, and among them are the files that PostgreSQL has no page checksums for.
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
