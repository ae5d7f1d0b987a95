/** Plans the prefetch for the record of an earlier publish. Pure; the record may be of another backup, or invalid. */
import type { FileRange } from '../../../dataplane/backup-source.ts'
import { BLOCK } from '../contents/block-map.ts'
import { type BaseTree, ROOT } from '../tree/base-tree.ts'
import type { TouchedRecord } from './touched-record.ts'

/** Starts at a block boundary; ends at one, or with its file. */
export type PlannedRange = FileRange

export interface PlanOptions {
  readonly isHeld: (file: number, block: number) => boolean
  /** Maximum bytes, in total and per range. */
  readonly budget: number
  readonly maxRange: number
}

/** More than a start touches; consecutive blocks of a file share a range. */
const MAX_RANGES = 4096

/** The recorded ranges of a backup that are not held, in the order in which they were touched. */
export function planPrefetch(
  { paths, ranges }: TouchedRecord,
  base: BaseTree,
  { isHeld, budget, maxRange }: PlanOptions,
): PlannedRange[] {
  const inodes = paths.map((path) => inodeAt(base, path))
  const plan: PlannedRange[] = []
  const planned = new Set<string>()
  let left = budget
  for (let at = 0; at + 2 < ranges.length; at += 3) {
    const ino = inodes[ranges[at] ?? 0] ?? 0
    const file = ino === 0 ? -1 : base.file(ino)
    if (file < 0) continue
    const size = base.size(ino)
    const first = ranges[at + 1] ?? 0
    const end = Math.min(first + (ranges[at + 2] ?? 0), Math.ceil(size / BLOCK))
    const wanted = (block: number) => block < end && !isHeld(file, block) && !planned.has(`${file} ${block}`)
    for (let block = first; block < end; block++) {
      if (!wanted(block)) continue
      const start = block
      planned.add(`${file} ${block}`)
      while ((block + 2 - start) * BLOCK <= maxRange && wanted(block + 1)) planned.add(`${file} ${++block}`)
      const offset = start * BLOCK
      const length = Math.min((block + 1) * BLOCK, size) - offset
      left -= length
      if (left < 0 || plan.length === MAX_RANGES) return plan
      plan.push({ file, offset, length })
    }
  }
  return plan
}

/** 0 when the tree has no such path. */
function inodeAt(base: BaseTree, path: string): number {
  let ino = ROOT
  for (const name of path.split('/')) {
    ino = base.lookup(ino, name)
    if (ino === 0) return 0
  }
  return ino
}
