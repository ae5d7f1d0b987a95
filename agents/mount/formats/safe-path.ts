/** Validates paths that come from a repository: they are untrusted, and may not leave the backup. */
import { HowdahError } from '../../../messages/errors.ts'

/** The longest path that Linux takes. */
const MAX_PATH_BYTES = 4096

const DOT = 46

/** Whether `path` is relative, `/`-separated and free of `.`, `..`, empty parts and NUL. */
export function isSafePath(path: string): boolean {
  if (path.length === 0 || path.length > MAX_PATH_BYTES || path.includes('\0')) return false
  // Nearly all paths have no dot at the start of a part: those need no split.
  if (!/(^|\/)(\.{0,2})(\/|$)/.test(path)) return true
  return false
}

/** Whether `path` from `start` on is a single safe name, given that the part before it is safe. May refuse unusual safe names. */
export function isSafeName(path: string, start: number): boolean {
  const { length } = path
  if (length > MAX_PATH_BYTES / 4 || path.includes('\0') || start === length) return false
  return path.charCodeAt(start) !== DOT || (length > start + 2 && path.charCodeAt(start + 1) !== DOT)
}

/** @throws HowdahError `backup_damaged`, which names the source of the path */
export function assertSafePath(path: string, from: string): void {
  if (isSafePath(path)) return
  throw new HowdahError(
    'backup_damaged',
    `${from} has the path ${JSON.stringify(path.slice(0, 200))}, which leads out of the backup or is malformed; such a backup is not opened`,
  )
}
