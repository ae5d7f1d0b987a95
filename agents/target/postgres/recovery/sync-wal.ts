/**
 * Syncs the files of pg_wal. The directory belongs to the instance's user, and this process may be root: entries are opened
 * so that only regular files are affected, even if one is replaced meanwhile.
 */
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'

/** Names sort by timeline and position (src/include/access/xlog_internal.h, XLogFileName). */
const SEGMENT = /^[0-9A-F]{24}$/
/** Errors of open for a file that was removed, a symbolic link or a socket. */
const NO_FILE: ReadonlySet<string> = new Set(['ENOENT', 'ELOOP', 'ENXIO'])

/**
 * Syncs the files of pg_wal and the directory; files may be removed meanwhile. Segments after `current` are recycled files
 * without valid contents, and PostgreSQL syncs what it writes to them.
 */
export async function syncWal(directory: string, current: string | undefined): Promise<void> {
  const holdsNothing = (name: string) => current !== undefined && SEGMENT.test(name) && name > current
  const names = (await readdir(directory, { withFileTypes: true })).filter(
    (entry) => entry.isFile() && !holdsNothing(entry.name),
  )
  for (const { name } of names) await syncFile(`${directory}/${name}`)
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  await handle.sync().finally(() => handle.close())
}

/** Syncs a regular file. Anything else, such as a FIFO or a symbolic link, is ignored, and never blocks. */
export async function syncFile(path: string): Promise<void> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    if (NO_FILE.has(error.code ?? '')) return undefined
    throw error
  })
  if (file === undefined) return
  try {
    if ((await file.stat()).isFile()) await file.sync()
  } finally {
    await file.close()
  }
}
