/**
 * Checks a write cache against its journal: the journal itself, and for each changed file a local file that reaches its
 * last changed block. The contents of blocks are for PostgreSQL to check.
 */
import { statSync } from 'node:fs'
import { BLOCK, BlockMap } from '../contents/block-map.ts'
import type { ContentsRecord, Journal } from './journal.ts'

export interface ChangeFindings {
  /** Number of files with changes, and bytes of the changes. */
  readonly files: number
  readonly bytes: number
  /** Descriptions of what is wrong. */
  readonly problems: readonly string[]
}

/** Safe while a mount process is changing it: a problem counts only when two passes find it. */
export function verifyChanges(cachePath: string, journal: Pick<Journal, 'load' | 'check'>): ChangeFindings {
  const first = inspect(cachePath, journal)
  if (first.problems.length === 0) return first
  const second = inspect(cachePath, journal)
  return { ...second, problems: second.problems.filter((problem) => first.problems.includes(problem)) }
}

function inspect(cachePath: string, journal: Pick<Journal, 'load' | 'check'>): ChangeFindings {
  const damage = journal.check()
  if (damage !== undefined)
    return { files: 0, bytes: 0, problems: [`SQLite reports about its journal: ${damage}`] }
  const changed = journal.load().contents.filter(({ row }) => row.changed > 0)
  return {
    files: changed.length,
    bytes: changed.reduce((sum, { row }) => sum + row.changed * BLOCK, 0),
    problems: changed
      .map((record) => problemOf(cachePath, record))
      .filter((problem) => problem !== undefined),
  }
}

function problemOf(cachePath: string, { row, chunks }: ContentsRecord): string | undefined {
  const path = `${cachePath}/files/${row.ino}`
  const needed = Math.min(BlockMap.from(chunks).end * BLOCK, row.size)
  const size = statSync(path, { throwIfNoEntry: false })?.size
  if (size === undefined) return `${path}, which holds ${row.changed} changed blocks, is gone`
  return size < needed ? `${path} ends at byte ${size}, but has changes up to byte ${needed}` : undefined
}
