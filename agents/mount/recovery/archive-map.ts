/** Which segments of each timeline an archive holds, and how far recovery gets with them. Pure, except for `mapArchive`. */
import { HowdahError } from '../../../messages/errors.ts'
import { segmentAt, segmentName, timelineOf } from '../../wal/lsn.ts'
import { readSegmentHeader } from '../../wal/wal-pages.ts'
import type { Run, WalArchive, WalGroup, WalListing } from '../repository.ts'
import { hasSegment, joinRuns, listingRemarks, runAt, runFrom, segmentNames } from '../wal-listing.ts'
import { type PathSegment, segmentsOnPath, type TimelinePath, timelinePath } from './timelines.ts'

export interface ArchiveMap {
  readonly segmentBytes: number
  /** Timeline → numbers of its segments, in order. */
  readonly segments: ReadonlyMap<number, readonly Run[]>
  /** Paths of every timeline that has a history file or segments, unless its history file is damaged. */
  readonly paths: ReadonlyMap<number, TimelinePath>
  /** Timelines that have a history file. */
  readonly histories: ReadonlySet<number>
  /** As `segments`, for those that cannot be read; and paths of some of them. */
  readonly unreadable: ReadonlyMap<number, readonly Run[]>
  readonly examples: readonly string[]
}

export interface MappedArchive {
  /** Undefined: the archive is empty, or holds no readable segment. */
  readonly map: ArchiveMap | undefined
  /** What a DBA should know about the archive. */
  readonly remarks: readonly string[]
}

/** How far recovery gets along a path from a segment on. Computed on demand: an archive may have a million segments. */
export interface Reach {
  /** Number of segments. */
  readonly length: number
  /** Number of the last segment; -1 where there is none. */
  readonly last: number
  /** The segments in reach numbered from `first` to `last`, in order. */
  segments(first: number, last: number): PathSegment[]
  /** Name of the first missing segment, where there are later ones. */
  readonly missing: string | undefined
  /** The next segment after the gap. */
  readonly nextThere: PathSegment | undefined
  /** Name of the segment right after the last one, where it exists and cannot be read. */
  readonly unreadable: string | undefined
}

/**
 * Lists an archive. Reads one segment to determine the segment size, unless that is known.
 * @param sample name of a segment that most likely exists
 */
export async function mapArchive(
  archive: WalArchive,
  sample: string | undefined,
  knownSegmentBytes: number | undefined,
): Promise<MappedArchive> {
  const listing = await archive.list()
  const { groups, histories, unreadable } = listing
  const remarks = listingRemarks(listing)
  const segmentBytes = knownSegmentBytes ?? (await sizeOf(archive, listing, sample))
  if (segmentBytes === undefined) return { map: undefined, remarks }
  const segments = numbered(groups, segmentBytes)
  const paths = new Map<number, TimelinePath>()
  for (const timeline of new Set([...segments.keys(), ...histories])) {
    const history = histories.includes(timeline)
      ? await archive.read(`${segmentName(timeline, 0, segmentBytes).slice(0, 8)}.history`)
      : undefined
    const path = timelinePath(timeline, history?.toString('utf8'))
    if (path !== undefined) paths.set(timeline, path)
  }
  const map = {
    segmentBytes,
    segments,
    paths,
    histories: new Set(histories),
    unreadable: numbered(unreadable.groups, segmentBytes),
    examples: unreadable.examples,
  }
  return { map, remarks }
}

/** Timeline → numbers of its segments, in order. */
function numbered(groups: readonly WalGroup[], segmentBytes: number): Map<number, readonly Run[]> {
  const perLog = 0x1_0000_0000 / segmentBytes
  const runs = new Map<number, Run[]>()
  for (const { timeline, log, runs: within } of groups) {
    const known = runs.get(timeline) ?? []
    runs.set(timeline, known)
    for (const [first, last] of within) {
      // No segment of that size has a higher number.
      if (first < perLog) known.push([log * perLog + first, log * perLog + Math.min(last, perLog - 1)])
    }
  }
  return new Map([...runs].map(([timeline, known]) => [timeline, joinRuns(known)]))
}

async function sizeOf(
  archive: WalArchive,
  listing: WalListing,
  sample: string | undefined,
): Promise<number | undefined> {
  const [any] = segmentNames(listing)
  const first = sample !== undefined && hasSegment(listing, sample) ? sample : any
  const bytes = first === undefined ? undefined : await archive.read(first)
  return bytes === undefined ? undefined : readSegmentHeader(bytes)?.segmentBytes
}

/** The file from which recovery along `path` reads a segment. */
function segmentThere(map: ArchiveMap, path: TimelinePath, segment: number): PathSegment | undefined {
  return segmentsOnPath(path, segment, map.segmentBytes).find(
    ({ name }) => runAt(map.segments.get(timelineOf(name)) ?? [], segment) !== undefined,
  )
}

/** Numbers of the segments on a path that exist, in order. */
function runsOnPath(map: ArchiveMap, path: TimelinePath): readonly Run[] {
  const found: Run[] = []
  for (const { timeline, begin, end } of path) {
    const least = segmentAt(begin, map.segmentBytes)
    const most = end === undefined ? Number.POSITIVE_INFINITY : segmentAt(end, map.segmentBytes)
    for (const [first, last] of map.segments.get(timeline) ?? []) {
      if (last >= least && first <= most) found.push([Math.max(first, least), Math.min(last, most)])
    }
  }
  return joinRuns(found)
}

/** @param from number of the segment that recovery begins with */
export function reachFrom(map: ArchiveMap, path: TimelinePath, from: number): Reach {
  const runs = runsOnPath(map, path)
  const index = runFrom(runs, from)
  const [first, last] = runs[index] ?? [from, from - 1]
  const isThere = first <= from && last >= from
  const next = isThere ? runs[index + 1] : runs[index]
  const after = segmentsOnPath(path, isThere ? last + 1 : from, map.segmentBytes)
  const [wanted] = next === undefined ? [] : after
  return {
    length: isThere ? last - from + 1 : 0,
    last: isThere ? last : -1,
    segments(least, most) {
      const found: PathSegment[] = []
      if (!isThere) return found
      for (let segment = Math.max(from, least); segment <= Math.min(last, most); segment += 1) {
        const there = segmentThere(map, path, segment)
        if (there !== undefined) found.push(there)
      }
      return found
    },
    missing: wanted?.name,
    nextThere: next && segmentThere(map, path, next[0]),
    unreadable: after.find(
      ({ name, segment }) => runAt(map.unreadable.get(timelineOf(name)) ?? [], segment) !== undefined,
    )?.name,
  }
}

/** The existing segments of a path, from number `most` back to number `least`. */
export function* segmentsBackward(
  map: ArchiveMap,
  path: TimelinePath,
  least: number,
  most = Number.POSITIVE_INFINITY,
): Iterable<PathSegment> {
  for (const [first, last] of runsOnPath(map, path).toReversed()) {
    for (let segment = Math.min(last, most); segment >= Math.max(first, least); segment -= 1) {
      const found = segmentThere(map, path, segment)
      if (found !== undefined) yield found
    }
  }
}

/** How many segments `segmentsBackward` yields. */
export const countSegments = (map: ArchiveMap, path: TimelinePath, least: number): number =>
  runsOnPath(map, path).reduce(
    (sum, [first, last]) => sum + Math.max(0, last - Math.max(first, least) + 1),
    0,
  )

/**
 * The path of the requested timeline. `latest` is what PostgreSQL takes for it: the highest number that is reached from
 * the backup's own without a gap (findNewestTimeLine of access/transam/timeline.c).
 * @param own timeline of the backup
 * @throws HowdahError `target_unreachable` when the archive has no such timeline, `backup_damaged`
 */
export function pathFor(map: ArchiveMap, wanted: number | 'latest' | 'current', own: number): TimelinePath {
  let timeline = own
  if (wanted === 'latest') while (map.histories.has(timeline + 1)) timeline += 1
  else if (wanted !== 'current') timeline = wanted
  const path = map.paths.get(timeline)
  if (path !== undefined) return path
  if (timeline === own) return [{ timeline, begin: 0n, end: undefined }]
  if (map.histories.has(timeline)) {
    throw new HowdahError(
      'backup_damaged',
      `the history file of timeline ${timeline} in the archive is damaged`,
      {
        field: 'recoverTo.timeline',
      },
    )
  }
  const known = [...map.paths.keys()].sort((a, b) => a - b)
  throw new HowdahError(
    'target_unreachable',
    `the archive has no timeline ${timeline}; ${known.length === 0 ? 'it has none' : `there are: ${known.join(', ')}`}`,
    { field: 'recoverTo.timeline' },
  )
}
