/**
 * Timelines: through which WAL a recovery to one leads. Pure.
 *
 * A history file (`0000000N.history`) has a line per ancestor: its number, the LSN at which the next timeline branched
 * off, and why (access/transam/timeline.c, readTimeLineHistory).
 */
import { lsnOf, segmentAt, segmentName } from '../../wal/lsn.ts'

/** Part of a path: `timeline` from `begin` up to, not including, `end`; undefined: to its end. */
export interface TimelineStretch {
  readonly timeline: number
  readonly begin: bigint
  readonly end: bigint | undefined
}

/** The stretches through which recovery to a timeline leads, oldest first; the last one is the timeline itself. */
export type TimelinePath = readonly TimelineStretch[]

/** Far more than any real history has. */
const MAX_LINES = 10_000

/** Parses a history file's text; a timeline without one has no ancestors. Undefined: it is damaged. */
export function timelinePath(timeline: number, history: string | undefined): TimelinePath | undefined {
  const stretches: TimelineStretch[] = []
  let begin = 0n
  for (const line of (history ?? '').split('\n', MAX_LINES)) {
    const text = line.trim()
    if (text === '' || text.startsWith('#')) continue
    const [number = '', position] = text.split(/\s+/)
    const end = lsnOf(position)
    if (!/^\d{1,10}$/.test(number) || end === undefined || end < begin) return undefined
    const previous = stretches.at(-1)
    if (Number(number) >= timeline || (previous !== undefined && Number(number) <= previous.timeline)) {
      return undefined
    }
    stretches.push({ timeline: Number(number), begin, end })
    begin = end
  }
  return [...stretches, { timeline, begin, end: undefined }]
}

/** Whether a recovery along `path` passes `lsn` of a timeline. */
export function isOnPath(path: TimelinePath, timeline: number, lsn: bigint | undefined): boolean {
  const stretch = path.find((one) => one.timeline === timeline)
  if (stretch === undefined) return false
  return stretch.end === undefined || lsn === undefined || lsn <= stretch.end
}

export interface PathSegment {
  readonly name: string
  readonly segment: number
  readonly segmentBytes: number
  /** Where the records of the next timeline begin, if that is in the segment. */
  readonly before: bigint | undefined
}

/**
 * The files that can hold a segment on a path, preferred one first: the segment in which a timeline begins exists on
 * the new timeline too, with everything before it (XLogFileReadAnyTLI of access/transam/xlogrecovery.c).
 */
export function segmentsOnPath(path: TimelinePath, segment: number, segmentBytes: number): PathSegment[] {
  const found: PathSegment[] = []
  for (const { timeline, begin, end } of path.toReversed()) {
    const first = segmentAt(begin, segmentBytes)
    const last = end === undefined ? segment : segmentAt(end, segmentBytes)
    if (segment < first || segment > last) continue
    found.push({
      name: segmentName(timeline, segment, segmentBytes),
      segment,
      segmentBytes,
      before: end !== undefined && segment === last ? end : undefined,
    })
  }
  return found
}
