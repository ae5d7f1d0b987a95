/**
 * How a full write cache is reported by write(2) although the kernel's page cache accepts writes before this server sees
 * them.
 *
 * The kernel writes a file through, with one WRITE per write(2) whose error goes to the writer, when the file's mode has
 * the set-user-ID bit, the writer may not keep it (it lacks CAP_FSETID, which only root has), and HANDLE_KILLPRIV_V2 was
 * negotiated. It checks the mode before every write, and requests it when its attributes were invalidated. So while the
 * file system is near full every regular file shows that bit. Files that are already open are switched by invalidating
 * their attributes; their dirty pages are written back, so that no WRITE can overtake or destroy what was accepted. Source: Linux, fs/fuse/file.c, fuse_cache_write_iter and
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

/** The mode that the kernel sees. */
export function shownMode(mode: number, nearFull: boolean): number {
  return nearFull && (mode & S_IFMT) === S_IFREG ? mode | S_ISUID : mode
}

/**
 * Mode bits without those that a write, a truncation or a change of owner clears. The set-group-ID bit of a file that its
 * group may not execute stays, and directories keep all. `mode`: includes the file's type. Source: Linux,
 * fs/open.c, chown_common.
 */
export function withoutPrivileges(bits: number, mode: number): number {
  if ((mode & S_IFMT) === S_IFDIR) return bits
  const group = (bits & S_IXGRP) !== 0 ? S_ISGID : 0
  return bits & ~(S_ISUID | group)
}

/**
 * Invalidates the kernel's attributes of these files, and with `writeBack` also makes it write back their dirty pages;
 * resolves when it has. Must not run in the thread that serves the device, for which the kernel waits.
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

/** Makes the kernel write back and invalidate the pages of a file. Same restriction as `switchFiles`. */
export function writeBack(fd: number, ino: Ino, logger: Logger): Promise<void> {
  return notify(fd, invalidateMessage(ino, true), logger)
}

async function notify(fd: number, message: Buffer, logger: Logger): Promise<void> {
  try {
    await writeDevice(fd, message)
  } catch (error) {
    // The kernel no longer has the file in memory, or it is being written to, which reaches this server.
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EBUSY') logger.warn({ err: error }, 'a file could not be invalidated')
  }
}
