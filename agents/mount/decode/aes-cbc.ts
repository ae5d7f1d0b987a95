/**
 * AES-256-CBC as pgBackRest writes it (src/common/crypto/cipherBlock.c, EVP_BytesToKey(3)): a salt of 8 bytes, after
 * the word `Salted__` unless it is the raw form, then the blocks, padded to 16 bytes (PKCS#7). Key and initialisation
 * vector are derived from passphrase and salt by SHA-1, one iteration. Nothing is authenticated: decrypted bytes are as
 * untrusted as stored ones.
 *
 * Decrypting a block needs only the one before it, so any range can be decrypted alone.
 */
import { createDecipheriv, createHash, type Decipheriv } from 'node:crypto'
import { Transform, type TransformCallback } from 'node:stream'

export const BLOCK_BYTES = 16
const ALGORITHM = 'aes-256-cbc'
const MAGIC = Buffer.from('Salted__', 'latin1')
const SALT_BYTES = 8
const KEY_BYTES = 32

/** A secret that stays hidden when its holder is logged, serialized or hashed into the name of a spool file. */
export class Passphrase {
  readonly #text: Buffer

  constructor(text: string) {
    this.#text = Buffer.from(text, 'utf8')
  }

  deriveKey(salt: Buffer): { readonly key: Buffer; readonly iv: Buffer } {
    let derived = Buffer.alloc(0)
    let digest = Buffer.alloc(0)
    while (derived.length < KEY_BYTES + BLOCK_BYTES) {
      digest = createHash('sha1').update(digest).update(this.#text).update(salt).digest()
      derived = Buffer.concat([derived, digest])
    }
    return {
      key: derived.subarray(0, KEY_BYTES),
      iv: derived.subarray(KEY_BYTES, KEY_BYTES + BLOCK_BYTES),
    }
  }

  toJSON(): string {
    return 'passphrase'
  }
}

/** Bytes before the blocks. @param raw without the magic word */
export const headerBytes = (raw: boolean): number => (raw ? 0 : MAGIC.length) + SALT_BYTES

/** Bytes that `size` plain ones take encrypted. */
export const encryptedSize = (size: number, raw: boolean): number =>
  headerBytes(raw) + (Math.floor(size / BLOCK_BYTES) + 1) * BLOCK_BYTES

export const looksEncrypted = (stored: Buffer): boolean => stored.subarray(0, MAGIC.length).equals(MAGIC)

/** @param header at least the first `headerBytes` @throws Error when it is none */
export function readKey(passphrase: Passphrase, header: Buffer, raw: boolean): { key: Buffer; iv: Buffer } {
  if (header.length < headerBytes(raw)) throw new Error('it is too short to be encrypted')
  if (!raw && !looksEncrypted(header)) throw new Error('it is not encrypted')
  return passphrase.deriveKey(header.subarray(headerBytes(raw) - SALT_BYTES, headerBytes(raw)))
}

/** All of it. @throws Error when it does not decrypt: damaged, or another passphrase */
export function decryptAll(stored: Buffer, passphrase: Passphrase, raw: boolean): Buffer {
  const { key, iv } = readKey(passphrase, stored, raw)
  const decipher = createDecipheriv(ALGORITHM, key, iv)
  return ended(() => {
    const plain = decipher.update(stored.subarray(headerBytes(raw)))
    const rest = decipher.final()
    return rest.length === 0 ? plain : Buffer.concat([plain, rest])
  })
}

/** The first whole blocks of what may be a part of a file. @throws Error as `readKey` */
export function decryptHead(stored: Buffer, passphrase: Passphrase, raw: boolean): Buffer {
  const { key, iv } = readKey(passphrase, stored, raw)
  const blocks = stored.subarray(headerBytes(raw))
  return decryptBlocks(key, iv, blocks.subarray(0, blocks.length - (blocks.length % BLOCK_BYTES)))
}

/** Whole blocks from anywhere, padding and all. @param before the stored block before them, or the initialisation vector */
export function decryptBlocks(key: Buffer, before: Buffer, blocks: Buffer): Buffer {
  return createDecipheriv(ALGORITHM, key, before).setAutoPadding(false).update(blocks)
}

/** A stream of plain bytes from a stream of encrypted ones. */
export function createDecryptor(passphrase: Passphrase, raw: boolean): Transform {
  let header = Buffer.alloc(0)
  let decipher: Decipheriv | undefined
  return new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
      try {
        if (decipher !== undefined) return done(null, decipher.update(chunk))
        header = Buffer.concat([header, chunk])
        if (header.length < headerBytes(raw)) return done()
        const { key, iv } = readKey(passphrase, header, raw)
        decipher = createDecipheriv(ALGORITHM, key, iv)
        done(null, decipher.update(header.subarray(headerBytes(raw))))
      } catch (error) {
        done(error as Error)
      }
    },
    flush(done: TransformCallback) {
      try {
        if (decipher === undefined) throw new Error('it is too short to be encrypted')
        const last = decipher
        done(
          null,
          ended(() => last.final()),
        )
      } catch (error) {
        done(error as Error)
      }
    },
  })
}

/** OpenSSL's message for wrong padding would not help an operator. */
function ended<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new Error('it does not decrypt', { cause: error })
  }
}
