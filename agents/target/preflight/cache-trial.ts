/**
 * Tries what a write cache, and PostgreSQL's WAL in it, need of a file system. Each trial has a directory of its own, and
 * all are removed again.
 */
import { once } from 'node:events'
import {
  chmod,
  type FileHandle,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const BLOCK = Buffer.alloc(8192, 'h')
/** Far behind the end: more than the largest file of FAT, and too much to be filled with zeros. */
const FAR = 8 * 1024 ** 3
/** Of what is far behind the end a file may have this much allocated. */
const MAX_ALLOCATED = 1024 ** 2
/** Unit of `st_blocks`; stat(2). */
const STAT_BLOCK_BYTES = 512

type Trial = (directory: string) => Promise<void>

/** What is tried, as a problem says it. */
const TRIALS: Readonly<Record<string, Trial>> = {
  'it has no sparse files, or only small ones': async (directory) => {
    await using file = await open(join(directory, 'file'), 'w+')
    // In this order, as write caches grow: behind the end, and into the hole.
    for (const position of [FAR, FAR / 2]) await file.write(BLOCK, 0, BLOCK.length, position)
    await file.datasync()
    require((await file.stat()).blocks * STAT_BLOCK_BYTES < MAX_ALLOCATED, 'holes take space')
    require((await content(file, FAR - BLOCK.length)).every((byte) => byte === 0), 'a hole is not of zeros')
    require((await content(file, FAR)).equals(BLOCK), 'it reads otherwise than it was written')
    await file.truncate(BLOCK.length)
    require((await file.stat()).size === BLOCK.length, 'a file was not truncated')
  },

  'directories cannot be synced': async (directory) => {
    await using file = await open(join(directory, 'file'), 'w')
    await file.sync()
    await using parent = await open(directory, 'r')
    await parent.sync()
  },

  'files cannot be replaced by a rename, or have no second name': async (directory) => {
    const [draft, name, second] = ['draft', 'name', 'second'].map((part) => join(directory, part))
    await writeFile(name ?? '', 'old')
    await using old = await open(name ?? '', 'r')
    await writeFile(draft ?? '', 'new')
    await rename(draft ?? '', name ?? '')
    require((await readFile(name ?? '', 'utf8')) === 'new', 'a rename did not replace')
    require((await old.readFile('utf8')) === 'old', 'a replaced file changed')
    await link(name ?? '', second ?? '')
    await symlink('name', join(directory, 'link'))
    require((await readFile(join(directory, 'link'), 'utf8')) ===
      'new', 'a symbolic link did not lead anywhere')
  },

  'a removed file does not stay usable while it is open': async (directory) => {
    const path = join(directory, 'file')
    await using file = await open(path, 'w+')
    await unlink(path)
    require((await readdir(directory)).length === 0, 'it is still listed')
    await file.write(BLOCK, 0, BLOCK.length, 0)
    require((await content(file, 0)).equals(BLOCK), 'it reads otherwise than it was written')
  },

  'files do not keep their modes': async (directory) => {
    for (const mode of [0o711, 0o700]) {
      await chmod(directory, mode)
      require(((await lstat(directory)).mode & 0o7777) === mode, `mode ${mode.toString(8)} is not kept`)
    }
  },

  'it has no Unix sockets': async (directory) => {
    const server = createServer().listen(join(directory, 's'))
    await once(server, 'listening')
    server.close()
  },

  'SQLite cannot keep a write-ahead log on it': async (directory) => {
    const database = new DatabaseSync(join(directory, 'database'))
    try {
      const mode = database.prepare('PRAGMA journal_mode = WAL').get()?.journal_mode
      require(mode === 'wal', `its journal is of mode ${String(mode)}`)
      database.exec('PRAGMA synchronous = FULL; CREATE TABLE tried (it TEXT)')
    } finally {
      database.close()
    }
  },
}

/** What is missing, each a part of a sentence with the reason. @param root exists, and can be written to */
export async function tryAsCache(root: string): Promise<string[]> {
  const directory = await mkdtemp(join(root, '.trial-'))
  try {
    const problems = Object.entries(TRIALS).map(async ([problem, trial], index) => {
      const own = join(directory, String(index))
      await mkdir(own, { mode: 0o700 })
      return trial(own).then(
        () => undefined,
        (error: Error) => `${problem} (${error.message})`,
      )
    })
    return (await Promise.all(problems)).filter((problem) => problem !== undefined)
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

function require(isSo: boolean, otherwise: string): void {
  if (!isSo) throw new Error(otherwise)
}

async function content(file: FileHandle, position: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(BLOCK.length), 0, BLOCK.length, position)
  return buffer.subarray(0, bytesRead)
}
