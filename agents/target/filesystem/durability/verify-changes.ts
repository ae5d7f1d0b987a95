/**
 * Whether a write cache has what its journal tells of: the journal itself, and for each changed file a local file that
 * reaches as far as its last changed block. What the blocks hold is PostgreSQL's to check.
 */
import { statSync } from 'node:fs'
import { BLOCK, BlockMap } from '../contents/block-map.ts'
import type { ContentsRecord, Journal } from './journal.ts'

export interface ChangeFindings {
  /** Files with changes, and bytes of those. */
  readonly files: number
  readonly bytes: number
  /** What is wrong, in words. */
  readonly problems: readonly string[]
}

/** Also while a mount process changes it: what is wrong once only was being changed. */
export function verifyChanges(cachePath: string, journal: Pick<Journal, 'load' | 'check'>): ChangeFindings {
  const first = lookAt(cachePath, journal)
  if (first.problems.length === 0) return first
  const second = lookAt(cachePath, journal)
  return { ...second, problems: second.problems.filter((problem) => first.problems.includes(problem)) }
}

function lookAt(cachePath: string, journal: Pick<Journal, 'load' | 'check'>): ChangeFindings {
  const damage = journal.check()
  if (damage !== undefined) return { files: 0, bytes: 0, problems: [`SQLite says of its journal: ${damage}`] }
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
  return size < needed ? `${path} ends at byte ${size}, and holds changes up to ${needed}` : undefined
}
