/**
 * A reply to the kernel in the buffer from which it is written: the header, followed by the data. The engine reads files
 * directly into `data`, so a reply is one write.
 */
import type { Attributes, FileSystem, FileSystemStatistics } from '../../file-system.ts'
import { encodeName, nameLength } from './names.ts'
import {
  ATTR_BYTES,
  ATTR_HEAD_BYTES,
  DIRENT_HEAD_BYTES,
  ENTRY_BYTES,
  ENTRY_HEAD_BYTES,
  MAX_TRANSFER,
  NAME_MAX,
  OUT,
  OUT_HEADER_BYTES,
} from './protocol.ts'
import { shownMode } from './write-through.ts'

/** Only this mount changes the tree, so what the kernel has cached stays valid. */
export const KEPT_SECONDS = 86_400
/** `st_blksize`: PostgreSQL's block. */
const PREFERRED_BYTES = 8192
const TWO_32 = 2 ** 32
const SECOND = 1_000_000_000n

export class Reply {
  readonly bytes = Buffer.allocUnsafeSlow(OUT_HEADER_BYTES + MAX_TRANSFER)
  readonly data = this.bytes.subarray(OUT_HEADER_BYTES)
  readonly #words = new Uint32Array(this.bytes.buffer)
  readonly #halves = new Uint16Array(this.bytes.buffer)
  readonly #fileSystem: Pick<FileSystem, 'nearFull'>

  constructor(fileSystem: Pick<FileSystem, 'nearFull'>) {
    this.#fileSystem = fileSystem
  }

  /** Writes the header for `length` bytes of data, or for an error (a positive errno); returns the length of the message. */
  finish(uniqueLow: number, uniqueHigh: number, error: number, length: number): number {
    const words = this.#words
    words[OUT.LENGTH] = OUT_HEADER_BYTES + length
    words[OUT.ERROR] = -error
    words[OUT.UNIQUE] = uniqueLow
    words[OUT.UNIQUE + 1] = uniqueHigh
    return OUT_HEADER_BYTES + length
  }

  /** Sets a word of the data. */
  word(at: number, value: number): void {
    this.#words[OUT.SIZE_WORDS + at] = value
  }

  /** Sets a number of 64 bits, whole and not negative, in the data. */
  long(at: number, value: number): void {
    // Storing to a Uint32Array takes the number modulo 2^32.
    this.word(at, value)
    this.word(at + 1, value / TWO_32)
  }

  /** Sets two numbers of 16 bits, in memory order. */
  halves(at: number, first: number, second: number): void {
    this.#halves[(OUT.SIZE_WORDS + at) * 2] = first
    this.#halves[(OUT.SIZE_WORDS + at) * 2 + 1] = second
  }

  zero(bytes: number): void {
    this.data.fill(0, 0, bytes)
  }

  /** `fuse_attr_out`; returns its length. */
  attributes(attributes: Attributes): number {
    this.long(0, KEPT_SECONDS)
    this.word(2, 0)
    this.word(3, 0)
    this.#attr(ATTR_HEAD_BYTES / 4, attributes)
    return ATTR_HEAD_BYTES + ATTR_BYTES
  }

  /** `fuse_entry_out` at a byte of the data, a multiple of 8; returns its length. Inode numbers are never reused. */
  entry(attributes: Attributes, at = 0): number {
    const word = at / 4
    this.long(word, attributes.ino)
    this.long(word + 2, 0)
    this.long(word + 4, KEPT_SECONDS)
    this.long(word + 6, KEPT_SECONDS)
    this.word(word + 8, 0)
    this.word(word + 9, 0)
    this.#attr(word + ENTRY_HEAD_BYTES / 4, attributes)
    return ENTRY_BYTES
  }

  /** `fuse_entry_out` for a missing name, which the kernel may cache for some seconds; returns its length. */
  noEntry(seconds: number, at = 0): number {
    this.data.fill(0, at, at + ENTRY_BYTES)
    this.long(at / 4 + 4, seconds)
    return ENTRY_BYTES
  }

  /** `fuse_dirent` at a byte of the data; returns the byte after it, or -1 when it does not fit before `end`. */
  dirent(at: number, end: number, ino: number, offset: number, type: number, name: string): number {
    const nameAt = at + DIRENT_HEAD_BYTES
    // The exact length is computed only near the end.
    const room = end - nameAt
    if (room < NAME_MAX + 8 && room < padded(nameLength(name))) return -1
    const length = encodeName(name, this.data, nameAt)
    const word = at / 4
    this.long(word, ino)
    this.long(word + 2, offset)
    this.word(word + 4, length)
    this.word(word + 5, type)
    const next = nameAt + padded(length)
    this.data.fill(0, nameAt + length, next)
    return next
  }

  /** `fuse_statfs_out`; returns its length. */
  statistics(statistics: FileSystemStatistics): number {
    this.zero(80)
    this.long(0, statistics.blocks)
    this.long(2, statistics.freeBlocks)
    this.long(4, statistics.availableBlocks)
    this.long(6, statistics.files)
    this.long(8, statistics.freeFiles)
    this.word(10, statistics.blockSize)
    this.word(11, NAME_MAX)
    this.word(12, statistics.blockSize)
    return 80
  }

  /** `fuse_attr` */
  #attr(word: number, attributes: Attributes): void {
    this.long(word, attributes.ino)
    this.long(word + 2, attributes.size)
    this.long(word + 4, Math.ceil(attributes.allocated / 512))
    this.#time(word + 6, word + 12, attributes.atime)
    this.#time(word + 8, word + 13, attributes.mtime)
    this.#time(word + 10, word + 14, attributes.ctime)
    this.word(word + 15, shownMode(attributes.mode, this.#fileSystem.nearFull))
    this.word(word + 16, attributes.nlink)
    this.word(word + 17, attributes.uid)
    this.word(word + 18, attributes.gid)
    this.word(word + 19, attributes.rdev)
    this.word(word + 20, PREFERRED_BYTES)
    this.word(word + 21, 0)
  }

  /** Seconds are signed; nanoseconds count forward from them. */
  #time(secondsAt: number, nanosecondsAt: number, time: bigint): void {
    let nanoseconds = Number(time % SECOND)
    let seconds = Number(time / SECOND)
    if (nanoseconds < 0) {
      nanoseconds += 1_000_000_000
      seconds -= 1
    }
    this.word(secondsAt, seconds)
    this.word(secondsAt + 1, Math.floor(seconds / TWO_32))
    this.word(nanosecondsAt, nanoseconds)
  }
}

function padded(length: number): number {
  return (length + 7) & ~7
}
