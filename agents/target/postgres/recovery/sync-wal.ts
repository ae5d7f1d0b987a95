/**
 * Syncs the files of pg_wal. The directory is the instance's user's, and this process may be root: what is in it is
 * opened so that nothing else than a file can be met, whatever takes its place meanwhile.
 */
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'

/** Timeline, and place: in the order of the names (src/include/access/xlog_internal.h, XLogFileName). */
const SEGMENT = /^[0-9A-F]{24}$/
/** It went, or is a link or a socket. */
const NO_FILE: ReadonlySet<string> = new Set(['ENOENT', 'ELOOP', 'ENXIO'])

/**
 * Syncs the files of pg_wal, and the directory; files may go meanwhile. Segments after `current` are old ones by new
 * names: what is in them counts for nothing, and PostgreSQL syncs what it writes to them.
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

/** Syncs a file; whatever else is there, a FIFO that would be waited for or a link that leads away, is left alone. */
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
