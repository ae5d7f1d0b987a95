/** Searches the WAL that a recovery will replay for the first tablespace that it creates. */
import { parseSegmentName, segmentStart } from '../../wal/lsn.ts'
import { scanSegment, type WalRecord } from '../../wal/scan-segment.ts'
import { readSegmentHeader } from '../../wal/wal-pages.ts'
import { isStop, recoveryStop } from '../../wal/wal-records.ts'
import { type Archive, archivePath } from './archive-path.ts'
import { type CreatedTablespace, createdTablespace, isTablespaceCreation } from './wal-tablespaces.ts'

export interface SearchedTarget {
  readonly type: 'latest' | 'immediate' | 'time' | 'lsn' | 'xid' | 'name'
  /** For a time, microseconds since 1970-01-01 UTC as digits; otherwise as in PostgreSQL. */
  readonly value?: string | undefined
  readonly timeline: number | 'current' | 'latest'
}

export interface FoundTablespace extends CreatedTablespace {
  /** Microseconds since 1970-01-01 UTC of the last commit before it. */
  readonly commitBefore: number | undefined
}

/**
 * @param first the first segment that recovery reads
 * @param last the last segment that the backup needs; the search for an `immediate` target ends there
 */
export async function firstCreatedTablespace(
  archive: Archive,
  first: string,
  last: string | undefined,
  target: SearchedTarget,
): Promise<FoundTablespace | undefined> {
  let segment = await archive.read(first)
  const header = segment && readSegmentHeader(segment)
  if (segment === undefined || header === undefined) return undefined
  const { segmentBytes } = header
  const path = await archivePath(archive, first, segmentBytes, target.timeline)
  const read = async (number: number): Promise<Buffer | undefined> => {
    for (const name of path.namesOf(number)) {
      const found = await archive.read(name)
      if (found !== undefined) return found
    }
    return undefined
  }
  const end =
    target.type === 'immediate' && last !== undefined
      ? parseSegmentName(last, segmentBytes)?.segment
      : undefined
  let commitBefore: number | undefined
  let found: FoundTablespace | undefined
  let reached = false

  const visit = (record: WalRecord): void => {
    if (reached || found !== undefined) return
    const created = createdTablespace(record)
    if (created !== undefined) found = { ...created, commitBefore }
    const stop = recoveryStop(record)
    reached = stop !== undefined && isReached(target, stop)
    if (stop?.kind === 'commit' && !reached) commitBefore = stop.time
  }

  for (let number = parseSegmentName(first, segmentBytes)?.segment ?? 0; segment !== undefined; number++) {
    const base = segmentStart(number, segmentBytes)
    if (target.type === 'lsn' && base >= lsnValue(target)) return undefined
    const next = await read(number + 1)
    scanSegment(segment, {
      base,
      next,
      wanted: (manager, info) => isTablespaceCreation(manager, info) || isStop(manager, info),
      visit,
    })
    if (found !== undefined) return target.type === 'lsn' && found.lsn >= lsnValue(target) ? undefined : found
    if (reached || number === end) return undefined
    segment = next
  }
  return undefined
}

function isReached(target: SearchedTarget, stop: NonNullable<ReturnType<typeof recoveryStop>>): boolean {
  switch (target.type) {
    case 'time':
      return stop.kind !== 'point' && stop.time > Number(target.value)
    case 'xid':
      return stop.kind !== 'point' && String(stop.xid) === target.value
    case 'name':
      return stop.kind === 'point' && stop.name === target.value
    case 'lsn':
    case 'latest':
    case 'immediate':
      return false
    default:
      return target.type satisfies never
  }
}

function lsnValue({ value = '0/0' }: SearchedTarget): bigint {
  const [high = '0', low = '0'] = value.split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}
