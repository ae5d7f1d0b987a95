/**
 * Decompression by name: as a stream for large files, as a whole for small ones. Damage is an error of the stream or
 * promise, to which the caller adds the name of the file.
 */
import type { Duplex } from 'node:stream'
import { promisify } from 'node:util'
import {
  createGunzip,
  createInflate,
  createZstdDecompress,
  gunzip,
  gunzipSync,
  inflate,
  inflateSync,
  zstdDecompress,
  zstdDecompressSync,
} from 'node:zlib'
import { bunzip2, createBunzip2 } from './bzip2.ts'
import { createLz4FrameDecoder, decodeLz4Frames } from './lz4-frame.ts'
import type { Compression } from './stored-file.ts'

/** Output chunk of a decompressor: small enough that the first bytes come soon, large enough to be cheap. Bytes. */
const CHUNK_BYTES = 256 * 1024

/** Fewer stored bytes are decoded synchronously: the round trip to a thread would take longer. */
const AT_ONCE_BYTES = 64 * 1024

/** The usual size of a WAL segment. */
const MAX_PIECE_BYTES = 16 * 1024 * 1024

const gunzipAll = promisify(gunzip)
const inflateAll = promisify(inflate)
const zstdDecompressAll = promisify(zstdDecompress)

export function createDecompressor(compression: Compression): Duplex {
  switch (compression) {
    case 'gz':
      return createGunzip({ chunkSize: CHUNK_BYTES })
    case 'zlib':
      return createInflate({ chunkSize: CHUNK_BYTES })
    case 'zst':
      return createZstdDecompress({ chunkSize: CHUNK_BYTES })
    case 'lz4':
      return createLz4FrameDecoder()
    case 'bz2':
      return createBunzip2()
    default:
      return compression satisfies never
  }
}

/** Decompresses a whole buffer. @throws Error when it is damaged, or gives more than `maxBytes` */
export async function decompress(
  compression: Compression,
  stored: Buffer,
  maxBytes: number,
): Promise<Buffer> {
  const likely = compression === 'gz' ? Math.min(maxBytes, gzipTrailer(stored)) : maxBytes
  // zlib takes no limit of 0.
  const options = { maxOutputLength: Math.max(1, maxBytes), chunkSize: chunkFor(likely) }
  const atOnce = stored.length <= AT_ONCE_BYTES
  switch (compression) {
    case 'gz':
      return atOnce ? gunzipSync(stored, options) : gunzipAll(stored, options)
    case 'zlib':
      return atOnce ? inflateSync(stored, options) : inflateAll(stored, options)
    case 'zst':
      return atOnce ? zstdDecompressSync(stored, options) : zstdDecompressAll(stored, options)
    case 'lz4':
      return decodeLz4Frames(stored, maxBytes)
    case 'bz2':
      return bunzip2(stored, maxBytes)
    default:
      return compression satisfies never
  }
}

/** The size that the last four bytes of a gzip file claim, modulo 2^32 (RFC 1952). */
const gzipTrailer = (stored: Buffer) => (stored.length < 4 ? 0 : stored.readUInt32LE(stored.length - 4))

/** One chunk where the size is known, and one byte more: otherwise zlib allocates another chunk to find the end. */
const chunkFor = (bytes: number) => (bytes <= MAX_PIECE_BYTES ? Math.max(bytes + 1, 4096) : 1024 * 1024)
