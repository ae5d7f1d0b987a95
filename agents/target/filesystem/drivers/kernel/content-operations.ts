/** The operations on the bytes of files: reading, writing, allocating, seeking and syncing. */
import { type Fallocate, type FileSystem, FileSystemError, type Ino } from '../../file-system.ts'
import type { Requester } from '../../reads/direct-reads.ts'
import { dropPrivilegesOf } from './attribute-operations.ts'
import { BODY, type Operation, type OperationTable } from './operation.ts'
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  IN,
  MAX_TRANSFER,
  OP,
  SEEK_DATA,
  SEEK_HOLE,
  WRITE_FLAG,
} from './protocol.ts'
import type { Reply } from './reply.ts'

const COUNT_BYTES = 8

/** `writeBack`: as in `OperationOptions`. */
export function contentOperations(
  fileSystem: FileSystem,
  writeBack: ((ino: Ino) => Promise<void>) | undefined,
): OperationTable {
  const table: Record<number, Operation> = {}

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

  // `fuse_write_in`: fh, offset, size, flags.
  table[OP.WRITE] = (request, reply) => {
    request.need(10)
    const length = request.word(BODY + 4)
    request.need(10 + length / 4)
    const { node } = request
    const flags = request.word(BODY + 5)
    if ((flags & WRITE_FLAG.KILL_SUIDGID) !== 0) dropPrivilegesOf(fileSystem, node)
    const accepted = (flags & WRITE_FLAG.CACHE) !== 0
    const written = fileSystem.write(node, request.written, length, request.long(BODY + 2), accepted)
    if (typeof written === 'number') return countOf(reply, written)
    return written.then((count) => countOf(reply, count))
  }

  // `fuse_fallocate_in`: fh, offset, length, mode.
  table[OP.FALLOCATE] = (request) => {
    request.need(8)
    const { node } = request
    if (request.word(IN.UID) !== 0) dropPrivilegesOf(fileSystem, node)
    const done = fileSystem.fallocate(
      node,
      fallocateOf(request.word(BODY + 6)),
      request.long(BODY + 2),
      request.long(BODY + 4),
    )
    return done instanceof Promise ? done.then(() => 0) : 0
  }

  // `fuse_lseek_in`: fh, offset, whence. The kernel may have dirty pages of the file that are unknown here.
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

  return table
}

/** `fuse_write_out` */
function countOf(reply: Reply, count: number): number {
  reply.word(0, count)
  reply.word(1, 0)
  return COUNT_BYTES
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
