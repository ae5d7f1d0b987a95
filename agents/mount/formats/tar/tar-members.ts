/**
 * The members of a tar archive, in one pass over its headers that skips the data between them. The archive is
 * untrusted; at any time one header and one window of bytes are in memory.
 */
import { decodeName } from '../../../dataplane/protocol/file-names.ts'
import { isSafePath } from '../safe-path.ts'
import { BLOCK_BYTES, isZero, MalformedTar, parsePax, parseTarHeader, UnsupportedTar } from './tar-header.ts'

/** Longer than any path of Linux; other records of an extended header are not used. Bytes. */
const MAX_EXTENSION_BYTES = 64 * 1024
const MAX_EXTENSIONS = 8
/** Members of one archive: far more files than any cluster has. */
const MAX_MEMBERS = 4_000_000

const SMALL_WINDOW = 4 * 1024
const LARGE_WINDOW = 256 * 1024

export interface TarMember {
  /** Normalised: relative, no `.` or `..`; empty: the archive's root directory. */
  readonly path: string
  readonly kind: 'file' | 'directory' | 'symlink'
  readonly mode: number
  readonly mtime: number
  /** Where its data begins in the archive, bytes. */
  readonly offset: number
  readonly size: number
  readonly linkTarget?: string
}

/** Up to `length` bytes at `offset` of the plain archive; fewer only where it ends. */
export type ReadArchive = (offset: number, length: number) => Promise<Buffer>

/** @throws MalformedTar | UnsupportedTar; whatever `read` throws */
export async function* tarMembers(read: ReadArchive): AsyncGenerator<TarMember> {
  const at = windowOf(read)
  let position = 0
  let zeros = 0
  let members = 0
  let extensions = 0
  let extended: ReadonlyMap<string, string> = new Map()
  let global: ReadonlyMap<string, string> = new Map()
  let longName: string | undefined
  let longLink: string | undefined

  for (;;) {
    const block = await at(position, BLOCK_BYTES)
    // A complete archive ends with two blocks of zeros; a copy that was cut short at a header lacks them.
    if (block.length < BLOCK_BYTES) {
      if (zeros > 0 && isZero(block)) return
      throw new MalformedTar('it ends too early')
    }
    const header = parseTarHeader(block)
    if (header === undefined) {
      zeros += 1
      position += BLOCK_BYTES
      if (zeros === 2) return
      continue
    }
    zeros = 0
    const data = position + BLOCK_BYTES
    const { type } = header

    if (type === 'x' || type === 'g' || type === 'L' || type === 'K') {
      extensions += 1
      if (extensions > MAX_EXTENSIONS) throw new MalformedTar('one member has too many extended headers')
      if (header.size > MAX_EXTENSION_BYTES) throw new MalformedTar('an extended header is too large')
      const content = await at(data, header.size)
      if (content.length < header.size) throw new MalformedTar('it ends too early')
      if (type === 'x') extended = parsePax(content)
      else if (type === 'g') global = parsePax(content)
      else if (type === 'L') longName = untilZero(content)
      else longLink = untilZero(content)
      position = data + padded(header.size)
      continue
    }

    const record = (key: string) => extended.get(key) ?? global.get(key)
    const name = record('path') ?? longName ?? header.name
    const linkName = record('linkpath') ?? longLink ?? header.linkName
    const shown = JSON.stringify(name.slice(0, 200))
    for (const key of [...extended.keys(), ...global.keys()]) {
      if (key.startsWith('GNU.sparse.')) throw new UnsupportedTar(`${shown} is stored sparse`)
    }
    const kind = kindOf(type, name)
    if (kind === undefined) throw new UnsupportedTar(`${shown} is ${typeName(type)}`)
    const stated = record('size')
    const size = kind === 'file' ? (stated === undefined ? header.size : whole(stated)) : 0
    const path = normalised(name)
    if (path !== '' && !isSafePath(path)) {
      throw new MalformedTar(`it has the path ${shown}, which leads out of it or is malformed`)
    }
    if (kind !== 'directory' && path === '') throw new MalformedTar('a member has no name')
    members += 1
    if (members > MAX_MEMBERS) throw new MalformedTar(`it has more than ${MAX_MEMBERS} members`)
    if (!Number.isSafeInteger(data + size + BLOCK_BYTES)) throw new MalformedTar(`${shown} is too large`)
    const { mode } = header
    const mtime = wholeTime(record('mtime')) ?? header.mtime
    const member = { path, kind, mode, mtime, offset: data, size }
    // Missing data must be found now, and not when PostgreSQL reads it.
    if (size > 0) {
      const last = await at(data + size - 1, 1, true)
      if (last.length === 0) throw new MalformedTar(`it ends in the middle of ${shown}`)
    }
    yield kind === 'symlink' ? { ...member, linkTarget: linkName } : member
    extended = new Map()
    extensions = 0
    longName = undefined
    longLink = undefined
    // Links by some programs have a size but no data.
    position = data + padded(size)
  }
}

/**
 * Reads by windows: large ones where header follows header, small ones where the data between them is skipped.
 * `lastly`: the read is of the last byte of a member's data, after which the next header follows.
 */
function windowOf(read: ReadArchive) {
  let start = 0
  let held: Buffer = Buffer.alloc(0)
  let bytes = SMALL_WINDOW
  return async (offset: number, length: number, lastly = false): Promise<Buffer> => {
    if (offset < start || offset + length > start + held.length) {
      const isNear = offset <= start + held.length + bytes
      bytes = isNear ? Math.min(LARGE_WINDOW, bytes * 2) : SMALL_WINDOW
      const from = lastly ? offset - (offset % BLOCK_BYTES) : offset
      held = await read(from, Math.max(bytes, offset + length - from))
      start = from
    }
    const from = offset - start
    return held.subarray(from, from + length)
  }
}

const padded = (size: number) => Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES

/** Without `./` before it and `/` after it. */
const normalised = (name: string) => name.replace(/^(\.\/+)+/, '').replace(/^\.$|\/+$/, '')

const untilZero = (content: Buffer) => {
  const end = content.indexOf(0)
  return decodeName(content, 0, end < 0 ? content.length : end)
}

function kindOf(type: string, name: string): TarMember['kind'] | undefined {
  // Archives older than ustar mark a directory by the end of its name.
  if (type === '0' || type === '7') return name.endsWith('/') ? 'directory' : 'file'
  if (type === '2') return 'symlink'
  return type === '5' ? 'directory' : undefined
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '3': 'a device',
  '4': 'a device',
  '6': 'a FIFO',
  S: 'stored sparse',
  M: 'continued from another volume',
}
const typeName = (type: string) => TYPE_NAMES[type] ?? `of the unknown type ${JSON.stringify(type)}`

function whole(value: string): number {
  const size = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(size)) throw new MalformedTar('an extended header has a malformed size')
  return size
}

const wholeTime = (value: string | undefined) =>
  value !== undefined && /^\d{1,12}(\.\d{1,12})?$/.test(value) ? Number(value) : undefined
