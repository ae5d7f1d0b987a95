/** The plain bytes of a stored file as a stream: reads its region piece by piece and applies its transforms in order. */
import { pipeline, Readable } from 'node:stream'
import { type DescriptorCache, readAt } from '../decode/descriptor-cache.ts'
import type { StoredFile } from '../decode/stored-file.ts'
import { createDecoder } from '../decode/transform.ts'

const READ_BYTES = 256 * 1024

/** The stream fails with the errors of system calls and of the decoders as they are. */
export function decodeStream(file: StoredFile, descriptors: DescriptorCache): Readable {
  let stream: Readable = Readable.from(storedPieces(file, descriptors), {
    objectMode: false,
    highWaterMark: READ_BYTES,
  })
  for (const transform of file.transforms) {
    const next = createDecoder(transform)
    // The error is thrown by the last stream; nothing is left to do here.
    pipeline(stream, next, () => undefined)
    stream = next
  }
  return stream
}

async function* storedPieces({ region }: StoredFile, descriptors: DescriptorCache): AsyncGenerator<Buffer> {
  const { path, offset, length } = region
  const end = length === undefined ? Number.POSITIVE_INFINITY : offset + length
  let position = offset
  while (position < end) {
    const piece = await descriptors.use(region, path, ({ fd }) =>
      readAt(fd, position, Math.min(READ_BYTES, end - position)),
    )
    if (piece.length === 0) return
    position += piece.length
    yield piece
  }
}
