/** Errors of the write cache's own disk, as the file system tells them to its callers. */
import { FileSystemError } from '../file-system.ts'

const NO_ROOM = new Set(['ENOSPC', 'EDQUOT'])

/** ENOSPC where there is no room, EFBIG beyond what the local file system can hold, else EIO. */
export function localError(error: unknown): FileSystemError {
  if (error instanceof FileSystemError) return error
  const { code } = error as NodeJS.ErrnoException
  const errno = code !== undefined && NO_ROOM.has(code) ? 'ENOSPC' : code === 'EFBIG' ? 'EFBIG' : 'EIO'
  return new FileSystemError(errno, 'the write cache cannot be written', { cause: error })
}
