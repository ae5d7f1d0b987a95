/** What one operation of the kernel's protocol is, and what all operations share. */
import { ANSWERED_BY_OTHER_THREAD, type MaybePromise } from '../../file-system.ts'
import { IN, OP } from './protocol.ts'
import type { Reply } from './reply.ts'
import type { Request } from './request.ts'

/**
 * Performs a request; returns the bytes of data in the reply, or `NO_REPLY`. The request buffer is reused once it has
 * returned, except that of a WRITE. @throws FileSystemError
 */
export type Operation = (request: Request, reply: Reply) => MaybePromise<number>

/** The request has no reply, or another thread sends it. */
export const NO_REPLY = ANSWERED_BY_OTHER_THREAD

/** Operations by their number in the protocol. */
export type OperationTable = Readonly<Record<number, Operation>>

/** Where the fields of a request begin, in words: after `fuse_in_header`. */
export const BODY = IN.SIZE_WORDS

/** The bytes of a file that a request read or wrote. `result`: those of its reply. */
export function transferred(request: Request, opcode: number, result: number): number {
  if (opcode === OP.READ) return result
  // `fuse_write_in`: fh, offset, size. What is not written completely is an error.
  return opcode === OP.WRITE ? request.word(BODY + 4) : 0
}

/** Mode bits without the type of the file. */
export const MODE_BITS = 0o7777
