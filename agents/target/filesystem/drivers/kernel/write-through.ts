/**
 * How a writer hears of a full write cache in write(2) although the kernel's page cache takes writes before this side
 * sees them.
 *
 * The kernel writes a file through, one WRITE for each write(2) and its error the writer's, when the file's mode has
 * the set-user-ID bit, the writer may not keep it (has no CAP_FSETID: nobody but root), and HANDLE_KILLPRIV_V2 was
 * taken. It looks at the mode before every write, and asks for it when it was told that it does not know it any more.
 * So while the file system is near full every regular file shows that bit. Files that were opened before are switched
 * too, by invalidating what the kernel knows of them; and what it holds of them is written back, so that from then on
 * no WRITE can overtake or destroy what was accepted. Source: Linux, fs/fuse/file.c, fuse_cache_write_iter and
 * fuse_perform_write; fs/attr.c, setattr_should_drop_suidgid; tried on 6.18.44.
 */
import { write } from 'node:fs'
import { promisify } from 'node:util'
import type { Logger } from 'pino'
import type { Ino } from '../../file-system.ts'
import { invalidateMessage } from './notifications.ts'

const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000
const S_ISUID = 0o4000
const S_ISGID = 0o2000
const S_IXGRP = 0o0010

const writeDevice = promisify(write)

/** The mode that the kernel is told. */
export function shownMode(mode: number, nearFull: boolean): number {
  return nearFull && (mode & S_IFMT) === S_IFREG ? mode | S_ISUID : mode
}

/**
 * Mode bits without those that a write, a truncation or a change of owner takes away: the set-group-ID bit of a file
 * that its group may not execute is none. Directories keep theirs. `mode`: with the file's type. Source: Linux,
 * fs/open.c, chown_common.
 */
export function withoutPrivileges(bits: number, mode: number): number {
  if ((mode & S_IFMT) === S_IFDIR) return bits
  const group = (bits & S_IXGRP) !== 0 ? S_ISGID : 0
  return bits & ~(S_ISUID | group)
}

/**
 * Has the kernel ask for the modes of these files, and with `writeBack` also write back what it holds of them; resolves
 * when it has. Not for the thread that serves the device: the kernel waits for that here.
 */
export async function switchFiles(
  fd: number,
  files: readonly Ino[],
  writeBack: boolean,
  logger: Logger,
): Promise<void> {
  for (const pages of writeBack ? [false, true] : [false]) {
    for (const ino of files) await notify(fd, invalidateMessage(ino, pages), logger)
  }
}

/** Has the kernel write back what it holds of a file, and ask for it again from then on. As `switchFiles`. */
export function writeBack(fd: number, ino: Ino, logger: Logger): Promise<void> {
  return notify(fd, invalidateMessage(ino, true), logger)
}

async function notify(fd: number, message: Buffer, logger: Logger): Promise<void> {
  try {
    await writeDevice(fd, message)
  } catch (error) {
    // The kernel does not hold the file any more, or somebody writes to it meanwhile, which is seen here.
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EBUSY') logger.warn({ err: error }, 'a file could not be invalidated')
  }
}
