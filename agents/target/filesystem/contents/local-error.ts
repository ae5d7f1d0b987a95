/** Errors of the write cache's own disk, as the file system reports them to its callers. */
import { FileSystemError } from '../file-system.ts'

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT'])

/** ENOSPC when there is no space, EFBIG beyond the largest file of the local file system, otherwise EIO. */
export function localError(error: unknown): FileSystemError {
  if (error instanceof FileSystemError) return error
  const { code } = error as NodeJS.ErrnoException
  const errno = code !== undefined && NO_SPACE.has(code) ? 'ENOSPC' : code === 'EFBIG' ? 'EFBIG' : 'EIO'
  return new FileSystemError(errno, 'the write cache cannot be written', { cause: error })
}
