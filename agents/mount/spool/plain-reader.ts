/**
 * Chooses how the plain bytes of a stored file are read, by what it takes to decode the file and by its size: in place,
 * in memory, by decrypted ranges, or by way of the spool's directory.
 */
import { createBoundedCache } from '../bounded-cache.ts'
import { checksumOf } from '../decode/checksum.ts'
import { type DescriptorCache, readAt } from '../decode/descriptor-cache.ts'
import { damaged, type StoredFile } from '../decode/stored-file.ts'
import { decodeWhole } from './decode-whole.ts'
import type { DecodedFiles } from './decoded-files.ts'
import { createEncryptedReader, onlyEncrypted } from './encrypted-reader.ts'
import { createInPlaceReader } from './in-place-reader.ts'
import { createPartChecks } from './part-checks.ts'
import type { Identify } from './stored-identity.ts'

/** Each fails with HowdahError `backup_damaged` | `repository_unavailable`, and errors of system calls as they are. */
export interface PlainReader {
  /** `length` plain bytes at `offset`; fewer only where the file ends. */
  read(file: StoredFile, offset: number, length: number, signal: AbortSignal | undefined): Promise<Buffer>
  /** All plain bytes, from memory where they are there. Not to be modified. */
  whole(file: StoredFile): Promise<Buffer>
  /** All plain bytes, decoded anew; the buffer is the caller's. @param maxBytes the most that it may decode to */
  decode(file: StoredFile, maxBytes?: number): Promise<Buffer>
  /** Stored bytes; those of a file within another are plain bytes of that one. */
  readStored(file: StoredFile, offset: number, length: number): Promise<Buffer>
}

/** Larger compressed files go through the directory. */
const SMALL_BYTES = 1024 * 1024
const MEMORY_BYTES = 192 * 1024 * 1024

export function createPlainReader(
  descriptors: DescriptorCache,
  identify: Identify,
  decodedFiles: DecodedFiles,
): PlainReader {
  const memory = createBoundedCache<string, Buffer>(MEMORY_BYTES, ({ length }) => length)
  const checkPart = createPartChecks(SMALL_BYTES)
  const storedBytes = async (file: StoredFile) => (await identify(file)).length
  const inPlace = createInPlaceReader({ descriptors, storedBytes, whole: decode, checkedBytes: SMALL_BYTES })
  const encrypted = createEncryptedReader({ storedBytes, readStored })

  async function readStored(
    file: StoredFile,
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const { region, container } = file
    if (container !== undefined) return read(container, region.offset + offset, length, signal)
    return descriptors.use(region, region.path, ({ fd }) => readAt(fd, region.offset + offset, length))
  }

  async function decode(file: StoredFile, maxBytes?: number): Promise<Buffer> {
    const { length } = await identify(file)
    return decodeWhole(file, length, () => readStored(file, 0, length), maxBytes)
  }

  async function whole(file: StoredFile): Promise<Buffer> {
    const { key } = await identify(file)
    return memory.get(key, () => decode(file))
  }

  async function read(
    file: StoredFile,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { transforms, size, container } = file
    if (transforms.length === 0 && container === undefined) {
      return checkPart(file, offset, await inPlace.read(file, offset, length))
    }
    const isSmall = size !== undefined && size <= SMALL_BYTES
    if (isSmall && (transforms.length > 0 || checksumOf(file) !== undefined)) {
      return (await whole(file)).subarray(offset, offset + length)
    }
    const wanted = size === undefined ? length : Math.max(0, Math.min(length, size - offset))
    if (wanted === 0) return Buffer.alloc(0)
    const decryption = onlyEncrypted(file)
    if (decryption !== undefined) {
      return checkPart(file, offset, await encrypted.read(file, decryption, offset, wanted))
    }
    if (transforms.length > 0) {
      const { key } = await identify(file)
      return decodedFiles.read(key, file, offset, wanted, signal)
    }
    const part = await readStored(file, offset, wanted, signal)
    if (size !== undefined && part.length < wanted) throw damaged(file, `it ends before ${offset + wanted}`)
    return checkPart(file, offset, part)
  }

  return { read, whole, decode, readStored }
}
