/** The operations on names: looking up, forgetting, making, linking, renaming and removing. */
import { type Caller, type FileSystem, FileSystemError, type RenameMode } from '../../file-system.ts'
import { encodeName } from './names.ts'
import { BODY, MODE_BITS, NO_REPLY, type Operation, type OperationTable } from './operation.ts'
import { IN, IN_HEADER_BYTES, OP, RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT_ID } from './protocol.ts'
import { KEPT_SECONDS, type Reply } from './reply.ts'
import type { Request } from './request.ts'
import { WAKEUP_FILE, WAKEUP_FILE_NAME } from './wakeup-file.ts'

/** `volatileDirectory`: as in `OperationOptions`. */
export function nameOperations(
  fileSystem: FileSystem,
  volatileDirectory: string | undefined,
): OperationTable {
  const volatileInode = inodeInRoot(volatileDirectory)
  const table: Record<number, Operation> = {}

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

  return table
}

function callerOf(request: Request): Caller {
  return { uid: request.word(IN.UID), gid: request.word(IN.GID) }
}

function renameMode(flags: number): RenameMode {
  if (flags === 0) return 'replace'
  if (flags === RENAME_NOREPLACE) return 'noreplace'
  if (flags === RENAME_EXCHANGE) return 'exchange'
  throw new FileSystemError('EINVAL')
}
