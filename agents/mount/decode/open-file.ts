/**
 * Opens files of a repository for reading. Refuses everything but regular files in the resolved that the caller names,
 * after symbolic links are resolved.
 */
import { close, constants, fstatSync, open, readlinkSync, statfs } from 'node:fs'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'
import { systemPath } from '../../dataplane/protocol/file-names.ts'
import { type AllowedRoots, isBelowRoots, outsideLinkError, resolveRoots } from './allowed-roots.ts'

const openPath = promisify(open)
const closeFile = promisify(close)
const statFileSystem = promisify(statfs)

/**
 * File systems of local disks and memory (statfs(2), linux/magic.h): ext2 to ext4, XFS, Btrfs, F2FS, ZFS, tmpfs, overlayfs.
 * A read of any other may wait for a network.
 */
const LOCAL_FILE_SYSTEMS = new Set([
  0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630,
])

export interface OpenedFile {
  readonly fd: number
  readonly ino: number
  /** Bytes. */
  readonly size: number
  readonly mtimeMs: number
  /** On a local file system of this machine. */
  readonly local: boolean
}

export interface FileOpener {
  /**
   * The descriptor is the caller's to close.
   * @throws HowdahError `configuration` when a link leads outside, `backup_damaged` when it is no regular file; errors
   *   of open(2) as they are
   */
  open(roots: AllowedRoots, path: string): Promise<OpenedFile>
  /** Resolves the roots anew next time. */
  forgetRoots(): void
}

export function createFileOpener(): FileOpener {
  /** Roots with links resolved, by the roots as they are configured. */
  const resolved = new Map<string, Promise<string[]>>()
  /** By device number. */
  const locality = new Map<number, Promise<boolean>>()

  function isLocal(device: number, fd: number): Promise<boolean> {
    let local = locality.get(device)
    if (local === undefined) {
      local = statFileSystem(`/proc/self/fd/${fd}`).then(
        ({ type }) => LOCAL_FILE_SYSTEMS.has(type),
        () => false,
      )
      locality.set(device, local)
    }
    return local
  }

  function resolvedRoots(roots: AllowedRoots): Promise<string[]> {
    const key = [roots.root, ...(roots.linkTargets ?? [])].join('\0')
    const known = resolved.get(key)
    if (known !== undefined) return known
    const found = resolveRoots(roots)
    resolved.set(key, found)
    found.catch(() => resolved.delete(key))
    return found
  }

  return {
    async open(roots, path) {
      const allowed = await resolvedRoots(roots)
      // O_NONBLOCK: opening a FIFO that was planted in a repository must not block.
      const fd = await openPath(
        systemPath(path),
        constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
      )
      try {
        // Answered from memory: a thread pool's round trip would only cost.
        const where = readlinkSync(`/proc/self/fd/${fd}`)
        const found = fstatSync(fd)
        if (!isBelowRoots(allowed, where)) throw await outsideLinkError(roots, path)
        if (!found.isFile()) throw new HowdahError('backup_damaged', `${path} is not a regular file`)
        const local = await isLocal(found.dev, fd)
        return { fd, ino: found.ino, size: found.size, mtimeMs: found.mtimeMs, local }
      } catch (error) {
        await closeFile(fd)
        throw error
      }
    },
    forgetRoots: () => resolved.clear(),
  }
}
