/**
 * The table of operations: each decodes its request, calls the file system and encodes the reply. Operations that are not
 * in the table are answered by ENOSYS, after which the kernel no longer sends them: OPEN, RELEASE and FLUSH (there are no
 * open files here), CREATE (it sends MKNOD instead), ACCESS (it checks permissions itself), extended attributes, locks,
 * POLL, BMAP, COPY_FILE_RANGE (it copies itself), TMPFILE, STATX (it sends GETATTR), SYNCFS (not sent for this kind of
 * mount).
 */

import { type FileSystem, FileSystemError, type Ino } from '../../file-system.ts'
import { attributeOperations } from './attribute-operations.ts'
import { contentOperations } from './content-operations.ts'
import { createDirectoryListings } from './directory-listings.ts'
import { nameOperations } from './name-operations.ts'
import { NO_REPLY, type Operation, type OperationTable } from './operation.ts'
import { OP } from './protocol.ts'

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
  // An array, not the tables themselves: it is indexed once for each request.
  const operations: (Operation | undefined)[] = []
  const tables = [
    nameOperations(fileSystem, options.volatileDirectory),
    attributeOperations(fileSystem),
    contentOperations(fileSystem, options.writeBack),
    directoryOperations(fileSystem),
    mountOperations(fileSystem),
  ]
  for (const table of tables) {
    for (const [opcode, operation] of Object.entries(table)) operations[Number(opcode)] = operation
  }
  return operations
}

/** The operations on open directories. */
function directoryOperations(fileSystem: FileSystem): OperationTable {
  const listings = createDirectoryListings(fileSystem)
  return {
    [OP.OPENDIR]: (request, reply) => listings.open(request.node, reply),
    [OP.READDIR]: (request, reply) => listings.read(request, reply, false),
    [OP.READDIRPLUS]: (request, reply) => listings.read(request, reply, true),
    [OP.RELEASEDIR]: (request) => listings.close(request),
    [OP.FSYNCDIR]: (request) => fileSystem.fsyncdir(request.node).then(() => 0),
  }
}

/** The operations that concern the mount as a whole. */
function mountOperations(fileSystem: FileSystem): OperationTable {
  return {
    [OP.STATFS]: (_request, reply) => reply.statistics(fileSystem.statfs()),
    [OP.IOCTL]: () => {
      throw new FileSystemError('ENOTTY')
    },
    [OP.DESTROY]: () => 0,
    // Of the wake-up file: its only purpose was to wake this thread.
    [OP.NOTIFY_REPLY]: () => NO_REPLY,
  }
}
