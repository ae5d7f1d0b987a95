/** Errors of the write cache's own disk, as the file system reports them to its callers. */
import { constants } from 'node:os'
import { FileSystemError } from '../file-system.ts'

/** Node has no name for the error of an exceeded quota: it is `UNKNOWN`, with this number. Source: libuv, uv.h. */
const QUOTA_EXCEEDED = -constants.errno.EDQUOT

/** Whether there is no space on a file system, or a quota is used up. */
export function isNoSpace(error: unknown): boolean {
  const { code, errno } = (error ?? {}) as NodeJS.ErrnoException
  return code === 'ENOSPC' || errno === QUOTA_EXCEEDED
}

/** ENOSPC when there is no space, EFBIG beyond the largest file of the local file system, otherwise EIO. */
export function localError(error: unknown): FileSystemError {
  if (error instanceof FileSystemError) return error
  const { code } = error as NodeJS.ErrnoException
  const errno = isNoSpace(error) ? 'ENOSPC' : code === 'EFBIG' ? 'EFBIG' : 'EIO'
  return new FileSystemError(errno, 'the write cache cannot be written', { cause: error })
}
