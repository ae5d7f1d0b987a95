/** A request of the kernel in the buffer that it was read into. Fields are read in place, nothing is copied. */
import { FileSystemError } from '../../file-system.ts'
import { decodeName } from './names.ts'
import { IN, IN_HEADER_BYTES, MAX_TRANSFER, NAME_MAX, WRITE_DATA_AT } from './protocol.ts'

/** The largest message is a WRITE; the rest is headroom for its headers. */
const BUFFER_BYTES = MAX_TRANSFER + 4096
const TWO_32 = 2 ** 32

export class Request {
  readonly bytes = Buffer.allocUnsafeSlow(BUFFER_BYTES)
  /** The data of a WRITE. */
  readonly written = this.bytes.subarray(WRITE_DATA_AT)
  readonly #words = new Uint32Array(this.bytes.buffer)
  /** Length of this message in bytes. */
  length = 0

  /** Whether `received` bytes are a whole message. */
  accept(received: number): boolean {
    this.length = received
    return received >= IN_HEADER_BYTES && this.word(IN.LENGTH) === received
  }

  word(at: number): number {
    return this.#words[at] as number
  }

  /** A number of 64 bits; exact below 2^53, as all sizes and inodes are. */
  long(at: number): number {
    return this.word(at) + this.word(at + 1) * TWO_32
  }

  signedLong(at: number): bigint {
    return BigInt.asIntN(64, (BigInt(this.word(at + 1)) << 32n) | BigInt(this.word(at)))
  }

  get node(): number {
    return this.long(IN.NODE)
  }

  /** @throws FileSystemError EINVAL when the message is shorter than its struct */
  need(words: number): void {
    if (this.length < IN_HEADER_BYTES + words * 4) throw new FileSystemError('EINVAL')
  }

  /** The byte after the NUL-terminated string at byte `at`. @throws FileSystemError EINVAL when it is not terminated */
  after(at: number): number {
    const zero = this.bytes.indexOf(0, at)
    if (zero < 0 || zero >= this.length) throw new FileSystemError('EINVAL')
    return zero + 1
  }

  /** The name at byte `at`. @throws FileSystemError EINVAL | ENAMETOOLONG */
  name(at: number): string {
    const end = this.after(at) - 1
    if (end === at) throw new FileSystemError('EINVAL')
    if (end - at > NAME_MAX) throw new FileSystemError('ENAMETOOLONG')
    return decodeName(this.bytes, at, end)
  }

  /** The target of a symbolic link at byte `at`. @throws FileSystemError EINVAL */
  target(at: number): string {
    return decodeName(this.bytes, at, this.after(at) - 1)
  }
}
