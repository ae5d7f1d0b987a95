/** Decodes a stored file in memory, all at once, and checks its size and checksum. For small files and WAL segments. */
import { freeBuffer } from '../../dataplane/protocol/freed-buffers.ts'
import { matchesChecksumInPieces } from '../decode/checksum.ts'
import { damaged, type StoredFile } from '../decode/stored-file.ts'
import { decodeAll } from '../decode/transform.ts'

/** The largest WAL segment that PostgreSQL knows is 1 GiB. */
export const WHOLE_MAX_BYTES = 1024 ** 3

/**
 * All plain bytes of `file`.
 * @param storedBytes length of the stored file
 * @param readStored reads all of the stored bytes
 * @param maxBytes the most that it may decode to, where the backup does not list its size
 * @throws HowdahError `backup_damaged`; errors of the decoders and of system calls as they are
 */
export async function decodeWhole(
  file: StoredFile,
  storedBytes: number,
  readStored: () => Promise<Buffer>,
  maxBytes = WHOLE_MAX_BYTES,
): Promise<Buffer> {
  if (storedBytes > WHOLE_MAX_BYTES) throw damaged(file, `${storedBytes} bytes are too large`)
  let contents = await readStored()
  if (contents.length !== storedBytes) throw damaged(file, 'its file became shorter')
  // The bytes of a member of an archive may be a view on a buffer that other readers share.
  let isOwn = file.container === undefined
  for (const transform of file.transforms) {
    const before = contents
    contents = await decodeAll(transform, before, file.size ?? maxBytes)
    if (isOwn && contents.buffer !== before.buffer) freeBuffer(before)
    isOwn = true
  }
  if (file.size !== undefined && contents.length !== file.size) {
    throw damaged(file, `it decodes to ${contents.length} bytes where the backup lists ${file.size}`)
  }
  if (!(await matchesChecksumInPieces(file, contents))) {
    throw damaged(file, 'its contents do not match their checksum')
  }
  return contents
}
