/** What an archive has of each timeline, and how far recovery gets with it. Pure, but for `readArchiveMap`. */
import { HowdahError } from '../../../messages/errors.ts'
import type { WalArchive } from '../repository.ts'
import { parseSegmentName, segmentAt, segmentName, timelineOf } from './lsn.ts'
import { type PathSegment, segmentsOnPath, type TimelinePath, timelinePath } from './timelines.ts'
import { readSegmentHeader } from './wal-pages.ts'

export interface ArchiveMap {
  readonly segmentBytes: number
  /** Timeline → numbers of its segments. */
  readonly segments: ReadonlyMap<number, ReadonlySet<number>>
  /** Of every timeline that has a history file or segments; one whose history file is damaged has none. */
  readonly paths: ReadonlyMap<number, TimelinePath>
  /** Timelines that have a history file. */
  readonly histories: ReadonlySet<number>
}

/** How far recovery gets along a path from a segment on. */
export interface Reach {
  /** In order. */
  readonly segments: readonly PathSegment[]
  /** The first one that is missing, where there are later ones. */
  readonly missing: string | undefined
  /** The next one that is there. */
  readonly nextThere: PathSegment | undefined
}

/**
 * Lists an archive. A segment is read to learn its size, unless that is known.
 * @param sample name of a segment that is most likely there
 * @returns undefined when the archive is empty, or holds nothing that can be understood
 */
export async function readArchiveMap(
  archive: WalArchive,
  sample: string | undefined,
  knownSegmentBytes: number | undefined,
): Promise<ArchiveMap | undefined> {
  const { segments: names, histories } = await archive.list()
  const segmentBytes = knownSegmentBytes ?? (await sizeOf(archive, names, sample))
  if (segmentBytes === undefined) return undefined
  const segments = new Map<number, Set<number>>()
  for (const name of names) {
    const found = parseSegmentName(name, segmentBytes)
    if (found === undefined) continue
    const known = segments.get(found.timeline)
    if (known === undefined) segments.set(found.timeline, new Set([found.segment]))
    else known.add(found.segment)
  }
  const paths = new Map<number, TimelinePath>()
  for (const timeline of new Set([...segments.keys(), ...histories])) {
    const history = histories.includes(timeline)
      ? await archive.read(`${segmentName(timeline, 0, segmentBytes).slice(0, 8)}.history`)
      : undefined
    const path = timelinePath(timeline, history?.toString('utf8'))
    if (path !== undefined) paths.set(timeline, path)
  }
  return { segmentBytes, segments, paths, histories: new Set(histories) }
}

async function sizeOf(
  archive: WalArchive,
  names: readonly string[],
  sample: string | undefined,
): Promise<number | undefined> {
  const first = sample !== undefined && names.includes(sample) ? sample : names[0]
  const bytes = first === undefined ? undefined : await archive.read(first)
  return bytes === undefined ? undefined : readSegmentHeader(bytes)?.segmentBytes
}

/** The file in which recovery along `path` finds a segment. */
function segmentThere(map: ArchiveMap, path: TimelinePath, segment: number): PathSegment | undefined {
  return segmentsOnPath(path, segment, map.segmentBytes).find(({ name }) =>
    map.segments.get(timelineOf(name))?.has(segment),
  )
}

/** Numbers of the segments on a path that are there, ascending. By what there is, not by what the names promise. */
function numbersOnPath(map: ArchiveMap, path: TimelinePath): number[] {
  const found = new Set<number>()
  for (const { timeline, begin, end } of path) {
    const least = segmentAt(begin, map.segmentBytes)
    const most = end === undefined ? Number.POSITIVE_INFINITY : segmentAt(end, map.segmentBytes)
    for (const segment of map.segments.get(timeline) ?? []) {
      if (segment >= least && segment <= most) found.add(segment)
    }
  }
  return [...found].sort((a, b) => a - b)
}

/** @param from number of the segment that recovery begins with */
export function reachFrom(map: ArchiveMap, path: TimelinePath, from: number): Reach {
  const numbers = numbersOnPath(map, path).filter((segment) => segment >= from)
  const segments: PathSegment[] = []
  for (const [index, segment] of numbers.entries()) {
    const found = segmentThere(map, path, segment)
    if (segment === from + index) {
      if (found !== undefined) segments.push(found)
      continue
    }
    const [wanted] = segmentsOnPath(path, from + index, map.segmentBytes)
    return { segments, missing: wanted?.name, nextThere: found }
  }
  return { segments, missing: undefined, nextThere: undefined }
}

/** The last segments of a path from number `least` on that are there, in order, and whether these are all. */
export function lastSegments(
  map: ArchiveMap,
  path: TimelinePath,
  least: number,
  limit: number,
): { readonly segments: PathSegment[]; readonly isAll: boolean } {
  const numbers = numbersOnPath(map, path).filter((segment) => segment >= least)
  const segments = numbers.slice(-limit).flatMap((segment) => segmentThere(map, path, segment) ?? [])
  return { segments, isAll: numbers.length <= limit }
}

/**
 * The path of the timeline that is asked for, as PostgreSQL finds it (findNewestTimeLine of access/transam/timeline.c:
 * the highest number that is reached from the backup's own without one missing in between).
 * @param own timeline of the backup
 * @throws HowdahError `target_unreachable` when the archive has none of that number, `backup_damaged`
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
