/** The steps from stored to plain bytes: a stream for large files, and all at once for small ones. */
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

/** Takes one step with a whole buffer. @throws Error when it is damaged, or gives more than `maxBytes` */
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
