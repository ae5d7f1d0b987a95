/** Checksums that repositories store of plain files. */
import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { crc32cStart, crc32cStep } from '../../wal/crc32c.ts'

export interface Checksum {
  readonly algorithm: 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'crc32c'
  /** Lower-case hex; a CRC's bytes in the order of memory, as PostgreSQL writes them into backup_manifest. */
  readonly hex: string
}

/** A file whose checksum may be known. */
export interface Checksummed {
  /** SHA-1 of the plain bytes, lower-case hex. */
  readonly sha1?: string
  /** Any other checksum of the plain bytes. */
  readonly checksum?: Checksum
}

export const checksumOf = ({ checksum, sha1 }: Checksummed): Checksum | undefined =>
  checksum ?? (sha1 === undefined ? undefined : { algorithm: 'sha1', hex: sha1 })

export interface RunningChecksum {
  update(piece: Buffer): void
  /** Ends it. */
  matches(): boolean
}

export function startChecksum({ algorithm, hex }: Checksum): RunningChecksum {
  if (algorithm !== 'crc32c') {
    const hash = createHash(algorithm)
    return { update: (piece) => void hash.update(piece), matches: () => hash.digest('hex') === hex }
  }
  let crc = crc32cStart
  return {
    update(piece) {
      crc = crc32cStep(crc, piece)
    },
    matches() {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE((crc ^ crc32cStart) >>> 0)
      return bytes.toString('hex') === hex
    },
  }
}

/** Bytes that are hashed before the event loop runs again. */
const PIECE_BYTES = 1024 * 1024

/** Whether a file's plain bytes match its checksum; true when it has none. */
export async function matchesChecksumInPieces(file: Checksummed, contents: Buffer): Promise<boolean> {
  const checksum = checksumOf(file)
  if (checksum === undefined) return true
  const running = startChecksum(checksum)
  for (let at = 0; at < contents.length; at += PIECE_BYTES) {
    if (at > 0) await setImmediate()
    running.update(contents.subarray(at, at + PIECE_BYTES))
  }
  return running.matches()
}
