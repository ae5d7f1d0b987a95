/**
 * WAL of a pg_basebackup: a directory of segments as pg_receivewal or a simple archive_command leaves them, and what
 * the backup itself carries in pg_wal.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { type Compression, isSystemError, type StoredFile } from '../../decode/stored-file.ts'
import { type WalLocator, walListing } from '../wal-files.ts'

const EXTENSIONS: readonly (Compression | undefined)[] = [undefined, 'gz', 'lz4', 'zst', 'bz2']

interface Place {
  readonly root: string
  readonly directory: string
}

/**
 * @param ownWal the backup's pg_wal. It comes second: the last segment of a streamed backup ends with the backup, the
 *   archive has it to its end
 */
export function walDirectories(archive: Place | undefined, ownWal: Place, instance: string): WalLocator {
  const known = new Map<string, { readonly file: StoredFile; readonly mtimeMs: number }>()

  async function look(place: Place, name: string, suffix: string): Promise<StoredFile | undefined> {
    for (const extension of EXTENSIONS) {
      const path = join(place.directory, name + (extension === undefined ? '' : `.${extension}`) + suffix)
      const found = await statFile(path)
      if (found === undefined) continue
      // A partial segment grows: what was known of it holds only for as long as it stays.
      const before = known.get(path)
      if (before?.mtimeMs === found.mtimeMs) return before.file
      const file: StoredFile = {
        region: { root: place.root, path, offset: 0, length: undefined, wholeFile: true },
        transforms: extension === undefined ? [] : [{ kind: 'decompress', compression: extension }],
        size: undefined,
        description: `WAL file ${name} of ${instance}`,
      }
      known.set(path, { file, mtimeMs: found.mtimeMs })
      return file
    }
    return undefined
  }

  return {
    async locate(name) {
      const found = archive === undefined ? undefined : await look(archive, name, '')
      const carried = found ?? (await look(ownWal, name, ''))
      if (carried !== undefined || archive === undefined) return carried
      return look(archive, name, '.partial')
    },
    async list() {
      const names: string[] = []
      for (const { directory } of archive === undefined ? [ownWal] : [archive, ownWal]) {
        for (const name of await namesIn(directory)) {
          names.push(name.replace(/\.(gz|lz4|zst|bz2)(?=$|\.partial$)/, ''))
        }
      }
      return walListing(names)
    },
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
