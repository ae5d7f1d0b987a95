/**
 * The payload of a `treeBatch` frame: entries of a backup's file tree, packed.
 *
 * `count u32`, then per entry: flags u8 (bits 0-1 kind, bit 2 has a file number), how many UTF-16 units of the
 * previous path it begins with, the rest of the path, mode, mtime (f64), and by kind: size and file number, or where
 * the link points. Integers are LEB128 varints, strings are UTF-8 behind their length in bytes. A batch stands alone.
 */
import { HowdahError } from '../../messages/errors.ts'
import type { TreeEntry } from './backup-source.ts'
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
  let previous = ''
  for (let i = 0; i < count; i++) {
    const flags = reader.byte()
    const kind = KINDS[flags & 3]
    const shared = reader.varint()
    if (kind === undefined || flags > 7 || shared > previous.length) throw malformed('treeBatch')
    const rest = reader.string()
    const path = shared === 0 ? rest : previous.slice(0, shared) + rest
    if (!isNormalised(path)) throw malformed('treeBatch')
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
    previous = path
  }
  reader.end()
  return entries
}

const UNSAFE = /^$|^\/|\/$|\/\/|\0|(?:^|\/)\.\.?(?:\/|$)/

function isNormalised(path: string): boolean {
  return path.length <= MAX_PATH && !UNSAFE.test(path)
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
