/** The operations on attributes, and what a change of owner takes away from them. */
import type { AttributeChanges, FileSystem, Ino } from '../../file-system.ts'
import { clampedTime } from '../times.ts'
import { BODY, MODE_BITS, type OperationTable } from './operation.ts'
import { FATTR, OP } from './protocol.ts'
import type { Request } from './request.ts'
import { WAKEUP_FILE } from './wakeup-file.ts'
import { withoutPrivileges } from './write-through.ts'

const SECOND = 1_000_000_000n
type Changes = { -readonly [K in keyof AttributeChanges]: AttributeChanges[K] }

export function attributeOperations(fileSystem: FileSystem): OperationTable {
  return {
    [OP.GETATTR]: (request, reply) => {
      const { node } = request
      return reply.attributes(node === WAKEUP_FILE.ino ? WAKEUP_FILE : fileSystem.getattr(node))
    },

    [OP.SETATTR]: (request, reply) => {
      const { node } = request
      const changes = changesOf(request)
      const owned = changes.uid !== undefined || changes.gid !== undefined
      if (owned || (request.word(BODY) & FATTR.KILL_SUIDGID) !== 0) dropPrivileges(fileSystem, node, changes)
      // The kernel sends an empty SETATTR before it writes to a file whose privileges a write clears.
      if (Object.keys(changes).length === 0) return reply.attributes(fileSystem.getattr(node))
      const changed = fileSystem.setattr(node, changes)
      if (!(changed instanceof Promise)) return reply.attributes(changed)
      return changed.then((attributes) => reply.attributes(attributes))
    },
  }
}

/** Adds to changes of a file that its set-user-ID and set-group-ID bits are cleared, as far as it has any. */
function dropPrivileges(fileSystem: FileSystem, node: Ino, changes: Changes): void {
  const { mode } = fileSystem.getattr(node)
  const left = withoutPrivileges(changes.mode ?? mode & MODE_BITS, mode)
  if (left !== (mode & MODE_BITS)) changes.mode = left
}

/** A caller without CAP_FSETID changes the contents of a file, which clears its set-user-ID and set-group-ID bits. */
export function dropPrivilegesOf(fileSystem: FileSystem, node: Ino): void {
  const changes: Changes = {}
  dropPrivileges(fileSystem, node, changes)
  if (changes.mode !== undefined) void fileSystem.setattr(node, changes)
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

/** Seconds and nanoseconds as one number of nanoseconds. */
function nanoseconds(request: Request, secondsAt: number, nanosecondsAt: number): bigint {
  return clampedTime(request.signedLong(secondsAt) * SECOND + BigInt(request.word(nanosecondsAt)))
}
