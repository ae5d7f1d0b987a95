/** What the conformance suite compares with: directories as they are on disk, and fingerprints of repositories. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'

export interface Found {
  readonly kind: TreeEntry['kind']
  readonly mode: number
  readonly size: number
  /** Whole seconds since the epoch. */
  readonly mtime: number
  readonly linkTarget?: string
}

/** Everything below a directory, itself included as `.`, symbolic links not followed. */
export async function walk(directory: string): Promise<Map<string, Found>> {
  const found = new Map<string, Found>()
  const visit = async (path: string, name: string): Promise<void> => {
    const stat = await lstat(path)
    const common = { mode: stat.mode & 0o7777, mtime: Math.floor(stat.mtimeMs / 1000) }
    if (stat.isSymbolicLink()) {
      found.set(name, { ...common, kind: 'symlink', size: 0, linkTarget: await readlink(path) })
    } else if (stat.isDirectory()) {
      found.set(name, { ...common, kind: 'directory', size: 0 })
      for (const below of await readdir(path)) {
        await visit(join(path, below), name === '.' ? below : `${name}/${below}`)
      }
    } else found.set(name, { ...common, kind: 'file', size: stat.size })
  }
  await visit(directory, '.')
  return found
}

/** One hash over names, kinds, modes, times, links and contents of everything below a directory. */
export async function fingerprint(directory: string): Promise<string> {
  const hash = createHash('sha256')
  const found = [...(await walk(directory))].sort(([a], [b]) => (a < b ? -1 : 1))
  for (const [name, entry] of found) {
    hash.update(JSON.stringify([name, entry]))
    if (entry.kind !== 'file') continue
    for await (const piece of createReadStream(join(directory, name)) as AsyncIterable<Buffer>) {
      hash.update(piece)
    }
  }
  return hash.digest('hex')
}

/** Repeatable pseudo-random whole numbers below a limit. */
export function dice(seed: number): (limit: number) => number {
  let state = seed
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
