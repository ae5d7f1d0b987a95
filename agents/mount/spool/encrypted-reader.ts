/** Reads stored files that are only encrypted: decrypts the requested range, for which it reads one block more. */
import { BLOCK_BYTES, decryptBlocks, encryptedSize, headerBytes, readKey } from '../decode/aes-cbc.ts'
import { damaged, type StoredFile, type Transform } from '../decode/stored-file.ts'

type Decryption = Extract<Transform, { kind: 'decrypt' }>

/** Undefined: it has other transforms, or its size is known only after all of it is decrypted. */
export function onlyEncrypted({ transforms, size, container }: StoredFile): Decryption | undefined {
  const [first, ...others] = transforms
  const isOnly = others.length === 0 && size !== undefined && container === undefined
  return isOnly && first?.kind === 'decrypt' ? first : undefined
}

export interface EncryptedReader {
  /**
   * `length` bytes at `offset`, all of which must be in the file.
   * @throws HowdahError `backup_damaged`; errors of read(2) as they are
   */
  read(file: StoredFile, decryption: Decryption, offset: number, length: number): Promise<Buffer>
}

export interface EncryptedDependencies {
  /** Bytes of the stored file. */
  readonly storedBytes: (file: StoredFile) => Promise<number>
  readonly readStored: (file: StoredFile, offset: number, length: number) => Promise<Buffer>
}

export function createEncryptedReader({ storedBytes, readStored }: EncryptedDependencies): EncryptedReader {
  const keys = new WeakMap<StoredFile, Promise<{ key: Buffer; iv: Buffer }>>()

  async function loadKey(file: StoredFile, { passphrase, raw }: Decryption) {
    const stored = await storedBytes(file)
    const expected = encryptedSize(file.size ?? 0, raw)
    if (stored !== expected) throw damaged(file, `it has ${stored} bytes instead of ${expected}`)
    return readKey(passphrase, await readStored(file, 0, headerBytes(raw)), raw)
  }

  function keyOf(file: StoredFile, decryption: Decryption): Promise<{ key: Buffer; iv: Buffer }> {
    let known = keys.get(file)
    if (known === undefined) {
      known = loadKey(file, decryption)
      keys.set(file, known)
      known.catch(() => keys.delete(file))
    }
    return known
  }

  return {
    async read(file, decryption, offset, length) {
      const { key, iv } = await keyOf(file, decryption)
      const header = headerBytes(decryption.raw)
      const first = Math.floor(offset / BLOCK_BYTES)
      const end = Math.ceil((offset + length) / BLOCK_BYTES)
      // The first block is decrypted with the initialisation vector, any other with the block before it.
      const from = Math.max(0, first - 1)
      const wanted = (end - from) * BLOCK_BYTES
      const stored = await readStored(file, header + from * BLOCK_BYTES, wanted)
      if (stored.length < wanted) throw damaged(file, `it ends before ${offset + length}`)
      const before = first === 0 ? iv : stored.subarray(0, BLOCK_BYTES)
      const plain = decryptBlocks(key, before, first === 0 ? stored : stored.subarray(BLOCK_BYTES))
      const start = offset - first * BLOCK_BYTES
      return plain.subarray(start, start + length)
    },
  }
}
