/**
 * Owns the payload of a `treeBatch` frame: packed entries of a backup's file tree.
 *
 * `count u32`, then per entry: flags u8 (bits 0-1 kind, bit 2 has a file number), how many UTF-16 units it shares with
 * the start of the previous path, the rest of the path, mode, mtime (f64), and by kind: size and file number, or where
 * the link points. Integers are LEB128 varints, strings are UTF-8 behind their length in bytes. A batch depends on no other.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { TreeEntry } from '../backup-source.ts'
import { MAX_TREE_BATCH_BYTES, malformed } from './protocol.ts'

const KINDS = ['file', 'directory', 'symlink'] as const
const HAS_FILE = 4

/** Longest path and link target, UTF-16 units: PATH_MAX of Linux. */
const MAX_PATH = 4096

/** What an entry may take besides its strings: flags, seven varints of at most 8 bytes, the time. Bytes. */
const FIXED_BYTES = 80

/** A batch is sent once it has reached this size, or `BATCH_ENTRIES`. Bytes. */
const BATCH_BYTES = 64 * 1024
const BATCH_ENTRIES = 2048

const scratch = Buffer.allocUnsafeSlow(MAX_TREE_BATCH_BYTES)

/**
 * Packs entries from `start` on until a batch is full.
 * @throws HowdahError `backup_damaged` for an entry that no file system could hold
 */
export function encodeTreeBatch(
  entries: readonly TreeEntry[],
  start: number,
): { payload: Buffer; count: number } {
  let at = 4
  let count = 0
  let previous = ''
  for (let i = start; i < entries.length && at < BATCH_BYTES && count < BATCH_ENTRIES; i++) {
    const entry = entries[i]
    if (entry === undefined) break
    const { path, linkTarget = '', file } = entry
    if (path.length > MAX_PATH || linkTarget.length > MAX_PATH) {
      throw new HowdahError('backup_damaged', `The backup has a path of more than ${MAX_PATH} characters.`)
    }
    if (at + FIXED_BYTES + 3 * (path.length + linkTarget.length) > scratch.length) break
    const shared = sharedPrefix(previous, path)
    scratch[at++] = KINDS.indexOf(entry.kind) | (file === undefined ? 0 : HAS_FILE)
    at = writeVarint(at, shared)
    at = writeString(at, shared === 0 ? path : path.slice(shared))
    at = writeVarint(at, entry.mode)
    at = scratch.writeDoubleLE(entry.mtime, at)
    if (entry.kind === 'file') {
      at = writeVarint(at, entry.size)
      if (file !== undefined) at = writeVarint(at, file)
    } else if (entry.kind === 'symlink') {
      at = writeString(at, linkTarget)
    }
    previous = path
    count += 1
  }
  scratch.writeUInt32BE(count, 0)
  return { payload: Buffer.from(scratch.subarray(0, at)), count }
}

/**
 * Unpacks a batch. Paths are checked to be normalised, because the sender is another machine.
 * @throws HowdahError `invalid_message`
 */
export function decodeTreeBatch(payload: Buffer): TreeEntry[] {
  const reader = new Reader(payload)
  const count = reader.uint32()
  const entries: TreeEntry[] = []
  const paths = new PathReader(reader)
  for (let i = 0; i < count; i++) {
    const flags = reader.byte()
    const kind = KINDS[flags & 3]
    if (kind === undefined || flags > 7) throw malformed('treeBatch')
    const path = paths.next()
    const mode = reader.varint()
    const mtime = reader.double()
    if (mode > 0o7777 || !Number.isFinite(mtime)) throw malformed('treeBatch')
    if (kind === 'file') {
      const size = reader.varint()
      if (flags & HAS_FILE) entries.push({ path, kind, mode, mtime, size, file: reader.varint() })
      else entries.push({ path, kind, mode, mtime, size })
    } else if (kind === 'symlink') {
      entries.push({ path, kind, mode, mtime, size: 0, linkTarget: reader.string() })
    } else {
      entries.push({ path, kind, mode, mtime, size: 0 })
    }
  }
  reader.end()
  return entries
}

const UNSAFE = /^$|^\/|\/$|\/\/|\0|(?:^|\/)\.\.?(?:\/|$)/

/**
 * Decodes paths, each of which may share its start with the one before. ASCII paths are made from bytes: a string that
 * is concatenated from others stays slow in everything that is done with it later.
 */
class PathReader {
  readonly #reader: Reader
  readonly #bytes = Buffer.allocUnsafe(MAX_PATH)
  /** Whether `bytes` holds the previous path. */
  #ascii = true
  #previous = ''

  constructor(reader: Reader) {
    this.#reader = reader
  }

  /** @throws HowdahError `invalid_message` when it is not normalised */
  next(): string {
    const shared = this.#reader.varint()
    if (shared > this.#previous.length) throw malformed('treeBatch')
    const path = this.#asciiPath(shared) ?? this.#anyPath(shared)
    if (path.length > MAX_PATH || UNSAFE.test(path)) throw malformed('treeBatch')
    this.#previous = path
    return path
  }

  #asciiPath(shared: number): string | undefined {
    if (!this.#ascii) return undefined
    const length = this.#reader.copyAscii(this.#bytes, shared)
    return length < 0 ? undefined : this.#bytes.toString('latin1', 0, length)
  }

  #anyPath(shared: number): string {
    const path = this.#previous.slice(0, shared) + this.#reader.string()
    this.#ascii = Buffer.byteLength(path) === path.length && this.#bytes.write(path) === path.length
    return path
  }
}

function sharedPrefix(a: string, b: string): number {
  const most = Math.min(a.length, b.length)
  let n = 0
  while (n < most && a.charCodeAt(n) === b.charCodeAt(n)) n++
  // Never between the halves of a surrogate pair: UTF-8 has no form for one half.
  const last = n === 0 ? 0 : b.charCodeAt(n - 1)
  return last >= 0xd800 && last < 0xdc00 ? n - 1 : n
}

function writeVarint(at: number, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new HowdahError('backup_damaged', `The backup's file tree has an impossible number: ${value}.`)
  }
  let rest = value
  while (rest >= 0x80) {
    scratch[at++] = (rest % 0x80) | 0x80
    rest = Math.floor(rest / 0x80)
  }
  scratch[at++] = rest
  return at
}

function writeString(at: number, value: string): number {
  // Most are short and ASCII; for these the loop is faster than a call of the buffer.
  const { length } = value
  if (length < 64) {
    let n = 0
    for (; n < length; n++) {
      const code = value.charCodeAt(n)
      if (code >= 0x80) break
      scratch[at + 1 + n] = code
    }
    if (n === length) {
      scratch[at] = length
      return at + 1 + length
    }
  }
  const bytes = Buffer.byteLength(value)
  at = writeVarint(at, bytes)
  return at + scratch.write(value, at)
}

class Reader {
  readonly #buffer: Buffer
  #at = 0

  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  byte(): number {
    const value = this.#buffer[this.#at++]
    if (value === undefined) throw malformed('treeBatch')
    return value
  }

  uint32(): number {
    return this.#buffer.readUInt32BE(this.#take(4))
  }

  double(): number {
    return this.#buffer.readDoubleLE(this.#take(8))
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let n = 0; n < 8; n++) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 0x80
    }
    throw malformed('treeBatch')
  }

  /**
   * Copies a string to `target` and returns where it ends there; -1, having read nothing, when it is not ASCII or there
   * is no room.
   */
  copyAscii(target: Buffer, at: number): number {
    const begin = this.#at
    const bytes = this.varint()
    const start = this.#take(bytes)
    if (at + bytes > target.length) {
      this.#at = begin
      return -1
    }
    const buffer = this.#buffer
    for (let n = 0; n < bytes; n++) {
      const byte = buffer[start + n] ?? 0
      if (byte >= 0x80) {
        this.#at = begin
        return -1
      }
      target[at + n] = byte
    }
    return at + bytes
  }

  string(): string {
    const bytes = this.varint()
    const start = this.#take(bytes)
    return this.#buffer.toString('utf8', start, start + bytes)
  }

  end(): void {
    if (this.#at !== this.#buffer.length) throw malformed('treeBatch')
  }

  #take(bytes: number): number {
    const start = this.#at
    if (start + bytes > this.#buffer.length) throw malformed('treeBatch')
    this.#at = start + bytes
    return start
  }
}
