/** Files and directories of a host that are brought into a wanted state: written whole or not at all, and kept where they are right. */
import { chmod, chown, lstat, mkdir, open, readFile, rename, unlink } from 'node:fs/promises'

/** Numeric, as chown(2) takes them. */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface FileState {
  readonly mode: number
  readonly owner: Owner
}

/** The text of a file; undefined: there is none. */
export async function readIfThere(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(ignoreMissing)
}

/** Durable when it resolves; after a crash the file is the old or the new one. @returns whether anything changed */
export async function ensureFile(file: string, text: string, state: FileState): Promise<boolean> {
  if ((await readIfThere(file)) === text) return ensureState(file, state)
  const temporary = `${file}.${process.pid}.new`
  await unlink(temporary).catch(ignoreMissing)
  const handle = await open(temporary, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.chown(state.owner.uid, state.owner.gid)
    await handle.chmod(state.mode)
    await handle.sync()
  } catch (error) {
    await unlink(temporary).catch(ignoreMissing)
    throw error
  } finally {
    await handle.close()
  }
  await rename(temporary, file)
  return true
}

/** Missing parents are created, as root's with mode 0755. @returns whether anything changed */
export async function ensureDirectory(directory: string, state: FileState): Promise<boolean> {
  const made = await mkdir(directory, { recursive: true, mode: 0o755 })
  return (await ensureState(directory, state)) || made !== undefined
}

async function ensureState(file: string, { mode, owner }: FileState): Promise<boolean> {
  const now = await lstat(file)
  const owned = now.uid === owner.uid && now.gid === owner.gid
  if (owned && (now.mode & 0o7777) === mode) return false
  // The owner first: chown(2) clears the bits for set-user-ID.
  if (!owned) await chown(file, owner.uid, owner.gid)
  await chmod(file, mode)
  return true
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
