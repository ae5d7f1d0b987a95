/**
 * Searches the WAL in `wal/` of a mount for tablespace creations. A separate program, because it reads from the mount, for
 * which the target agent itself never waits. One argument: JSON of `SearchRequest`; writes the result as JSON to stdout.
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
