/**
 * A program of its own, because it waits for the mount, as the target agent never does: looks through the WAL in `wal/`
 * for tablespaces. One argument: JSON of `SearchRequest`; writes JSON of what it found.
 */
import { readFile } from 'node:fs/promises'
import { firstCreatedTablespace } from './search-archive.ts'
import type { SearchRequest } from './search-request.ts'

const { wal, first, last, target } = JSON.parse(process.argv[2] ?? '') as SearchRequest
const archive = {
  read: (name: string) =>
    readFile(`${wal}/${name}`).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    }),
}
const found = await firstCreatedTablespace(archive, first, last, target)
process.stdout.write(JSON.stringify(found ? { ...found, lsn: found.lsn.toString() } : null))
