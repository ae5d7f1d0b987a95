/** The transforms from stored to plain bytes: as a stream for large files, as a whole for small ones. */
import type { Duplex } from 'node:stream'
import { createDecryptor, decryptAll } from './aes-cbc.ts'
import { createDecompressor, decompress } from './decompress.ts'
import type { Transform } from './stored-file.ts'

export function createDecoder(transform: Transform): Duplex {
  switch (transform.kind) {
    case 'decompress':
      return createDecompressor(transform.compression)
    case 'decrypt':
      return createDecryptor(transform.passphrase, transform.raw)
    default:
      return transform satisfies never
  }
}

/** Applies one transform to a whole buffer. @throws Error when it is damaged, or gives more than `maxBytes` */
export async function decodeAll(transform: Transform, stored: Buffer, maxBytes: number): Promise<Buffer> {
  switch (transform.kind) {
    case 'decompress':
      return decompress(transform.compression, stored, maxBytes)
    case 'decrypt':
      return decryptAll(stored, transform.passphrase, transform.raw)
    default:
      return transform satisfies never
  }
}
