/**
 * The table of operations: each decodes its request, calls the file system and encodes the reply. Operations that are not
 * in the table are answered by ENOSYS, after which the kernel no longer sends them: OPEN, RELEASE and FLUSH (there are no
 * open files here), CREATE (it sends MKNOD instead), ACCESS (it checks permissions itself), extended attributes, locks,
 * POLL, BMAP, COPY_FILE_RANGE (it copies itself), TMPFILE, STATX (it sends GETATTR), SYNCFS (not sent for this kind of
 * mount).
 */

import {
  ANSWERED_BY_OTHER_THREAD,
  type AttributeChanges,
  type Caller,
  type Fallocate,
  type FileSystem,
  FileSystemError,
  type Ino,
  type MaybePromise,
  type RenameMode,
} from '../../file-system.ts'
import type { Requester } from '../../reads/direct-reads.ts'
import { clampedTime } from '../times.ts'
import { createDirectoryListings } from './directory-listings.ts'
import { encodeName } from './names.ts'
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  FATTR,
  IN,
  IN_HEADER_BYTES,
  MAX_TRANSFER,
  OP,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  ROOT_ID,
  SEEK_DATA,
  SEEK_HOLE,
  WRITE_FLAG,
} from './protocol.ts'
import { KEPT_SECONDS, type Reply } from './reply.ts'
import type { Request } from './request.ts'
import { WAKEUP_FILE, WAKEUP_FILE_NAME } from './wakeup-file.ts'
import { withoutPrivileges } from './write-through.ts'

/**
 * Performs a request; returns the bytes of data in the reply, or `NO_REPLY`. The request buffer is reused once it has
 * returned, except that of a WRITE. @throws FileSystemError
 */
export type Operation = (request: Request, reply: Reply) => MaybePromise<number>

/** The request has no reply, or another thread sends it. */
export const NO_REPLY = ANSWERED_BY_OTHER_THREAD

/** Where the fields of a request begin, in words: after `fuse_in_header`. */
const BODY = IN.SIZE_WORDS

const MODE_BITS = 0o7777
const SECOND = 1_000_000_000n
const COUNT_BYTES = 8
type Changes = { -readonly [K in keyof AttributeChanges]: AttributeChanges[K] }

export interface OperationOptions {
  /** A directory in the root where names appear without a request, so that the kernel must not cache missing ones. */
  readonly volatileDirectory?: string | undefined
  /**
   * Makes the kernel write back the dirty pages of a file, from another thread; resolves when it has. Without it LSEEK is not
   * supported.
   */
  readonly writeBack?: ((ino: Ino) => Promise<void>) | undefined
}

/** @returns operations by their number in the protocol */
export function createOperations(
  fileSystem: FileSystem,
  options: OperationOptions = {},
): readonly (Operation | undefined)[] {
  const listings = createDirectoryListings(fileSystem)
  const volatileInode = inodeInRoot(options.volatileDirectory)
  const table: (Operation | undefined)[] = []

  function inodeInRoot(name: string | undefined): number | undefined {
    if (name === undefined) return undefined
    const found = fileSystem.lookup(ROOT_ID, name)
    if (found instanceof Promise) throw new TypeError('directories of the root are looked up synchronously')
    fileSystem.forget(found.ino, 1)
    return found.ino
  }

  table[OP.LOOKUP] = (request, reply) => {
    const parent = request.node
    const name = request.name(IN_HEADER_BYTES)
    if (name === WAKEUP_FILE_NAME && parent === ROOT_ID) return reply.entry(WAKEUP_FILE)
    try {
      const found = fileSystem.lookup(parent, name)
      if (!(found instanceof Promise)) return reply.entry(found)
      return found
        .then((attributes) => reply.entry(attributes))
        .catch((error: unknown) => missing(parent, reply, error))
    } catch (error) {
      return missing(parent, reply, error)
    }
  }

  function missing(parent: number, reply: Reply, error: unknown): number {
    if (parent === volatileInode || !(error instanceof FileSystemError) || error.errno !== 'ENOENT')
      throw error
    return reply.noEntry(KEPT_SECONDS)
  }

  table[OP.FORGET] = (request) => {
    request.need(2)
    fileSystem.forget(request.node, request.long(BODY))
    return NO_REPLY
  }

  table[OP.BATCH_FORGET] = (request) => {
    request.need(2)
    const count = request.word(BODY)
    request.need(2 + count * 4)
    for (let index = 0; index < count; index++) {
      const at = BODY + 2 + index * 4
      fileSystem.forget(request.long(at), request.long(at + 2))
    }
    return NO_REPLY
  }

  table[OP.GETATTR] = (request, reply) => {
    const { node } = request
    return reply.attributes(node === WAKEUP_FILE.ino ? WAKEUP_FILE : fileSystem.getattr(node))
  }

  table[OP.SETATTR] = (request, reply) => {
    const { node } = request
    const changes = changesOf(request)
    const owned = changes.uid !== undefined || changes.gid !== undefined
    if (owned || (request.word(BODY) & FATTR.KILL_SUIDGID) !== 0) dropPrivileges(node, changes)
    // The kernel sends an empty SETATTR before it writes to a file whose privileges a write clears.
    if (Object.keys(changes).length === 0) return reply.attributes(fileSystem.getattr(node))
    const changed = fileSystem.setattr(node, changes)
    if (!(changed instanceof Promise)) return reply.attributes(changed)
    return changed.then((attributes) => reply.attributes(attributes))
  }

  table[OP.READLINK] = (request, reply) => encodeName(fileSystem.readlink(request.node), reply.data, 0)

  table[OP.SYMLINK] = (request, reply) => {
    const name = request.name(IN_HEADER_BYTES)
    const target = request.target(request.after(IN_HEADER_BYTES))
    return reply.entry(fileSystem.symlink(request.node, name, target, callerOf(request)))
  }

  table[OP.MKNOD] = (request, reply) => {
    request.need(4)
    const name = request.name(IN_HEADER_BYTES + 16)
    const mode = request.word(BODY)
    return reply.entry(fileSystem.mknod(request.node, name, mode, request.word(BODY + 1), callerOf(request)))
  }

  table[OP.MKDIR] = (request, reply) => {
    request.need(2)
    const name = request.name(IN_HEADER_BYTES + 8)
    return reply.entry(
      fileSystem.mkdir(request.node, name, request.word(BODY) & MODE_BITS, callerOf(request)),
    )
  }

  table[OP.LINK] = (request, reply) => {
    request.need(2)
    const name = request.name(IN_HEADER_BYTES + 8)
    return reply.entry(fileSystem.link(request.long(BODY), request.node, name))
  }

  table[OP.UNLINK] = (request) => {
    fileSystem.unlink(request.node, request.name(IN_HEADER_BYTES))
    return 0
  }

  table[OP.RMDIR] = (request) => {
    fileSystem.rmdir(request.node, request.name(IN_HEADER_BYTES))
    return 0
  }

  table[OP.RENAME] = (request) => {
    request.need(2)
    return rename(request, IN_HEADER_BYTES + 8, 'replace')
  }

  table[OP.RENAME2] = (request) => {
    request.need(4)
    return rename(request, IN_HEADER_BYTES + 16, renameMode(request.word(BODY + 2)))
  }

  function rename(request: Request, namesAt: number, mode: RenameMode): number {
    const name = request.name(namesAt)
    const newName = request.name(request.after(namesAt))
    fileSystem.rename(request.node, name, request.long(BODY), newName, mode)
    return 0
  }

  const requester: Requester = { low: 0, high: 0, pid: 0 }
  // `fuse_read_in`: fh, offset, size.
  table[OP.READ] = (request, reply) => {
    request.need(10)
    const length = Math.min(request.word(BODY + 4), MAX_TRANSFER)
    requester.low = request.word(IN.UNIQUE)
    requester.high = request.word(IN.UNIQUE + 1)
    requester.pid = request.word(IN.PID)
    return fileSystem.read(request.node, reply.data, length, request.long(BODY + 2), requester)
  }

  function dropPrivileges(node: Ino, changes: Changes): void {
    const { mode } = fileSystem.getattr(node)
    const left = withoutPrivileges(changes.mode ?? mode & MODE_BITS, mode)
    if (left !== (mode & MODE_BITS)) changes.mode = left
  }

  /** A caller without CAP_FSETID changes the contents of a file, which clears its set-user-ID and set-group-ID bits. */
  function dropPrivilegesOf(node: Ino): void {
    const changes: Changes = {}
    dropPrivileges(node, changes)
    if (changes.mode !== undefined) void fileSystem.setattr(node, changes)
  }

  // `fuse_write_in`: fh, offset, size, flags.
  table[OP.WRITE] = (request, reply) => {
    request.need(10)
    const length = request.word(BODY + 4)
    request.need(10 + length / 4)
    const { node } = request
    const flags = request.word(BODY + 5)
    if ((flags & WRITE_FLAG.KILL_SUIDGID) !== 0) dropPrivilegesOf(node)
    const accepted = (flags & WRITE_FLAG.CACHE) !== 0
    const written = fileSystem.write(node, request.written, length, request.long(BODY + 2), accepted)
    if (typeof written === 'number') return countOf(reply, written)
    return written.then((count) => countOf(reply, count))
  }

  // `fuse_fallocate_in`: fh, offset, length, mode.
  table[OP.FALLOCATE] = (request) => {
    request.need(8)
    const { node } = request
    if (request.word(IN.UID) !== 0) dropPrivilegesOf(node)
    const done = fileSystem.fallocate(
      node,
      fallocateOf(request.word(BODY + 6)),
      request.long(BODY + 2),
      request.long(BODY + 4),
    )
    return done instanceof Promise ? done.then(() => 0) : 0
  }

  // `fuse_lseek_in`: fh, offset, whence. The kernel may have dirty pages of the file that are unknown here.
  const { writeBack } = options
  if (writeBack !== undefined) {
    table[OP.LSEEK] = async (request, reply) => {
      request.need(6)
      const { node } = request
      const position = request.long(BODY + 2)
      const whence = request.word(BODY + 4)
      if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FileSystemError('EINVAL')
      await writeBack(node)
      reply.long(0, fileSystem.seek(node, position, whence === SEEK_DATA ? 'data' : 'hole'))
      return COUNT_BYTES
    }
  }

  table[OP.FSYNC] = (request) => fileSystem.fsync(request.node).then(() => 0)
  table[OP.FSYNCDIR] = (request) => fileSystem.fsyncdir(request.node).then(() => 0)
  table[OP.STATFS] = (_request, reply) => reply.statistics(fileSystem.statfs())

  table[OP.OPENDIR] = (request, reply) => listings.open(request.node, reply)
  table[OP.READDIR] = (request, reply) => listings.read(request, reply, false)
  table[OP.READDIRPLUS] = (request, reply) => listings.read(request, reply, true)
  table[OP.RELEASEDIR] = (request) => listings.close(request)

  table[OP.IOCTL] = () => {
    throw new FileSystemError('ENOTTY')
  }
  table[OP.DESTROY] = () => 0
  // Of the wake-up file: its only purpose was to wake this thread.
  table[OP.NOTIFY_REPLY] = () => NO_REPLY

  return table
}

function callerOf(request: Request): Caller {
  return { uid: request.word(IN.UID), gid: request.word(IN.GID) }
}

/** `fuse_write_out` */
function countOf(reply: Reply, count: number): number {
  reply.word(0, count)
  reply.word(1, 0)
  return COUNT_BYTES
}

/** `fuse_setattr_in`: valid, fh, size, lock_owner, three times, their nanoseconds, mode, uid, gid. */
function changesOf(request: Request): Changes {
  request.need(22)
  const valid = request.word(BODY)
  const changes: Changes = {}
  if ((valid & FATTR.MODE) !== 0) changes.mode = request.word(BODY + 17) & MODE_BITS
  if ((valid & FATTR.UID) !== 0) changes.uid = request.word(BODY + 19)
  if ((valid & FATTR.GID) !== 0) changes.gid = request.word(BODY + 20)
  if ((valid & FATTR.SIZE) !== 0) changes.size = request.long(BODY + 4)
  if ((valid & FATTR.ATIME_NOW) !== 0) changes.atime = 'now'
  else if ((valid & FATTR.ATIME) !== 0) changes.atime = nanoseconds(request, BODY + 8, BODY + 14)
  if ((valid & FATTR.MTIME_NOW) !== 0) changes.mtime = 'now'
  else if ((valid & FATTR.MTIME) !== 0) changes.mtime = nanoseconds(request, BODY + 10, BODY + 15)
  if ((valid & FATTR.CTIME) !== 0) changes.ctime = nanoseconds(request, BODY + 12, BODY + 16)
  return changes
}

function renameMode(flags: number): RenameMode {
  if (flags === 0) return 'replace'
  if (flags === RENAME_NOREPLACE) return 'noreplace'
  if (flags === RENAME_EXCHANGE) return 'exchange'
  throw new FileSystemError('EINVAL')
}

function fallocateOf(mode: number): Fallocate {
  const keepSize = (mode & FALLOC_KEEP_SIZE) !== 0
  switch (mode & ~FALLOC_KEEP_SIZE) {
    case 0:
      return { what: 'allocate', keepSize }
    case FALLOC_PUNCH_HOLE:
      return { what: 'punch-hole', keepSize }
    case FALLOC_ZERO_RANGE:
      return { what: 'zero-range', keepSize }
    default:
      throw new FileSystemError('EOPNOTSUPP')
  }
}

/** Seconds and nanoseconds as one number of nanoseconds. */
function nanoseconds(request: Request, secondsAt: number, nanosecondsAt: number): bigint {
  return clampedTime(request.signedLong(secondsAt) * SECOND + BigInt(request.word(nanosecondsAt)))
}
