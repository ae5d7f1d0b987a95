/**
 * WAL of a pg_basebackup: a directory of segments as pg_receivewal or a simple archive_command leaves them, and what
 * the backup itself carries, in its pg_wal or in tar archives.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { type Compression, isSystemError, type StoredFile } from '../../decode/stored-file.ts'
import { walListing } from '../../wal-listing.ts'
import type { TarIndexes } from '../tar/tar-index.ts'
import type { WalLocator } from '../wal-files.ts'
import { memberFile } from './copy.ts'

const EXTENSIONS: readonly (Compression | undefined)[] = [undefined, 'gz', 'lz4', 'zst', 'bz2']

/** Somewhere that WAL files lie. */
export interface WalPlace {
  /** @param suffix `.partial` for what is a part of the segment `name` */
  look(name: string, suffix: '' | '.partial'): Promise<StoredFile | undefined>
  names(): Promise<string[]>
}

/**
 * @param own what the backup carries. It comes second: the last segment of a streamed backup ends with the backup, the
 *   archive has it to its end
 */
export const walPlaces = (archive: WalPlace | undefined, own: WalPlace): WalLocator => ({
  async locate(name) {
    const found = (await archive?.look(name, '')) ?? (await own.look(name, ''))
    return found ?? archive?.look(name, '.partial')
  },
  async list() {
    const names = await Promise.all([archive?.names() ?? [], own.names()])
    return walListing(names.flat())
  },
})

export function walDirectory(root: string, directory: string, instance: string): WalPlace {
  const known = new Map<string, { readonly file: StoredFile; readonly mtimeMs: number }>()
  return {
    async look(name, suffix) {
      for (const extension of EXTENSIONS) {
        const path = join(directory, name + (extension === undefined ? '' : `.${extension}`) + suffix)
        const found = await statFile(path)
        if (found === undefined) continue
        // A partial segment grows: what was known of it holds only for as long as it stays.
        const before = known.get(path)
        if (before?.mtimeMs === found.mtimeMs) return before.file
        const file: StoredFile = {
          region: { root, path, offset: 0, length: undefined, wholeFile: true },
          transforms: extension === undefined ? [] : [{ kind: 'decompress', compression: extension }],
          size: undefined,
          description: `WAL file ${name} of ${instance}`,
        }
        known.set(path, { file, mtimeMs: found.mtimeMs })
        return file
      }
      return undefined
    },
    names: async () =>
      (await namesIn(directory)).map((name) => name.replace(/\.(gz|lz4|zst|bz2)(?=$|\.partial$)/, '')),
  }
}

/** @param prefix where in the archive WAL lies: nothing in pg_wal.tar, `pg_wal/` in base.tar */
export function walArchive(
  archive: StoredFile,
  prefix: string,
  indexes: TarIndexes,
  instance: string,
): WalPlace {
  let reading: Promise<ReadonlyMap<string, StoredFile>> | undefined

  async function read(): Promise<ReadonlyMap<string, StoredFile>> {
    const files = new Map<string, StoredFile>()
    for await (const { path, kind, offset, size } of (await indexes.open(archive)).members()) {
      const name = path.slice(prefix.length)
      if (kind !== 'file' || !path.startsWith(prefix) || name.includes('/')) continue
      files.set(name, memberFile(archive, offset, size, `WAL file ${name} of ${instance}`))
    }
    return files
  }
  const all = () => {
    reading ??= read()
    reading.catch(() => {
      reading = undefined
    })
    return reading
  }
  return {
    look: async (name, suffix) => (await all()).get(name + suffix),
    names: async () => [...(await all()).keys()],
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isSystemError(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return []
    throw new HowdahError('repository_unavailable', `${directory} cannot be read`, { cause: error })
  }
}

async function statFile(path: string): Promise<{ readonly mtimeMs: number } | undefined> {
  try {
    const found = await stat(path)
    return found.isFile() ? found : undefined
  } catch (error) {
    if (isSystemError(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined
    throw new HowdahError('repository_unavailable', `${path} cannot be read`, { cause: error })
  }
}
