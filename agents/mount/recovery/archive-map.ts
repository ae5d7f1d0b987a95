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
  /** Of every timeline that has a history file or segments. A damaged history file has none. */
  readonly paths: ReadonlyMap<number, TimelinePath>
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
  return { segmentBytes, segments, paths }
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

function lastOnPath(map: ArchiveMap, path: TimelinePath): number {
  let last = -1
  for (const { timeline, end } of path) {
    const most = end === undefined ? Number.POSITIVE_INFINITY : segmentAt(end, map.segmentBytes)
    for (const segment of map.segments.get(timeline) ?? []) {
      if (segment > last && segment <= most) last = segment
    }
  }
  return last
}

/** @param from number of the segment that recovery begins with */
export function reachFrom(map: ArchiveMap, path: TimelinePath, from: number): Reach {
  const last = lastOnPath(map, path)
  const segments: PathSegment[] = []
  for (let segment = from; segment <= last; segment++) {
    const found = segmentThere(map, path, segment)
    if (found === undefined) {
      const [wanted] = segmentsOnPath(path, segment, map.segmentBytes)
      let nextThere: PathSegment | undefined
      for (let later = segment + 1; later <= last && nextThere === undefined; later++) {
        nextThere = segmentThere(map, path, later)
      }
      return { segments, missing: wanted?.name, nextThere }
    }
    segments.push(found)
  }
  return { segments, missing: undefined, nextThere: undefined }
}

/** The segments at the end of a path, back to the first that is missing; in order, at most `limit`. */
export function tailOf(map: ArchiveMap, path: TimelinePath, limit: number): PathSegment[] {
  const found: PathSegment[] = []
  for (let segment = lastOnPath(map, path); segment >= 0 && found.length < limit; segment--) {
    const there = segmentThere(map, path, segment)
    if (there === undefined) break
    found.unshift(there)
  }
  return found
}

/**
 * The path of the timeline that is asked for, as PostgreSQL finds it (findNewestTimeLine of access/transam/timeline.c:
 * the highest number that is reached from the backup's own without one missing in between).
 * @param own timeline of the backup
 * @throws HowdahError `target_unreachable` when the archive has none of that number
 */
export function pathFor(map: ArchiveMap, wanted: number | 'latest' | 'current', own: number): TimelinePath {
  let timeline = own
  if (wanted === 'latest') while (map.paths.has(timeline + 1)) timeline += 1
  else if (wanted !== 'current') timeline = wanted
  const path = map.paths.get(timeline)
  if (path !== undefined) return path
  if (timeline === own) return [{ timeline, begin: 0n, end: undefined }]
  const known = [...map.paths.keys()].sort((a, b) => a - b)
  throw new HowdahError(
    'target_unreachable',
    `the archive has no timeline ${timeline}; ${known.length === 0 ? 'it has none' : `there are: ${known.join(', ')}`}`,
    { field: 'recoverTo.timeline' },
  )
}
