/** What the conformance suite compares with: directories as they are on disk. */
import { lstatSync, readdirSync, readlinkSync } from 'node:fs'
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
export function walk(directory: string): Map<string, Found> {
  const found = new Map<string, Found>()
  const visit = (path: string, name: string): void => {
    const stat = lstatSync(path)
    const common = { mode: stat.mode & 0o7777, mtime: Math.floor(stat.mtimeMs / 1000) }
    if (stat.isSymbolicLink()) {
      found.set(name, { ...common, kind: 'symlink', size: 0, linkTarget: readlinkSync(path) })
    } else if (stat.isDirectory()) {
      found.set(name, { ...common, kind: 'directory', size: 0 })
      for (const below of readdirSync(path)) {
        visit(join(path, below), name === '.' ? below : `${name}/${below}`)
      }
    } else found.set(name, { ...common, kind: 'file', size: stat.size })
  }
  visit(directory, '.')
  return found
}

/** Repeatable pseudo-random whole numbers below a limit. */
export function dice(seed: number): (limit: number) => number {
  let state = seed
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
