/** Errors of the file system as the kernel's numbers. */
import { constants } from 'node:os'
import type { Logger } from 'pino'
import { FileSystemError } from '../../file-system.ts'

const { errno } = constants

/** The errno of a failed operation, positive. What is not the file system's own error is EIO; EIO is logged. */
export function errorNumber(error: unknown, opcode: number, logger: Logger): number {
  const name = error instanceof FileSystemError ? error.errno : 'EIO'
  if (name === 'EIO') logger.error({ err: error, opcode }, 'a file operation failed')
  return (errno as Record<string, number>)[name] ?? errno.EIO
}
