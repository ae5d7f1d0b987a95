/**
 * Prefetches the WAL that a replay will request: the segments after the one that was requested, on the path to the
 * timeline whose history was read. Failures are ignored: a segment that is missing or damaged fails when it is
 * requested.
 */

import { parseSegmentName, segmentName, timelineOf } from '../../wal/lsn.ts'
import type { StoredFile } from '../decode/stored-file.ts'
import { segmentsOnPath, type TimelinePath, timelinePath } from '../recovery/timelines.ts'
import type { WalCache } from './wal-cache.ts'

/** Segments to prefetch after the one that was requested. */
const SEGMENTS = 8
/** Valid segment sizes (access/xlog_internal.h: IsValidWalSegSize). Bytes. */
const [MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES] = [1024 ** 2, 1024 ** 3]
/** A segment is read in many pieces: the segments after it are looked up at most once in this time. */
const LOOK_MS = 1000
const LOOKS = 64
const HISTORIES = 16
const MAX_HISTORY_BYTES = 1024 * 1024

export interface WalPrefetch {
  /** A segment or history file was requested. Returns immediately. */
  requested(name: string, contents: Buffer): void
}

/** @param locate the stored file of a name; undefined when it does not exist */
export function createWalPrefetch(
  locate: (name: string) => Promise<StoredFile | undefined>,
  cache: WalCache,
  clock: () => number = Date.now,
): WalPrefetch {
  /** When the segments after a segment were looked up, oldest first. */
  const looks = new Map<string, number>()
  /** Paths of the histories that were read, by timeline. */
  const paths = new Map<number, TimelinePath>()

  function remember(timeline: number, history: Buffer): void {
    if (history.length > MAX_HISTORY_BYTES) return
    const path = timelinePath(timeline, history.toString('utf8'))
    if (path === undefined) return
    paths.delete(timeline)
    paths.set(timeline, path)
    dropOldest(paths, HISTORIES)
  }

  async function look(name: string, segmentBytes: number): Promise<void> {
    let at: string | undefined = name
    for (let count = 0; count < SEGMENTS; count += 1) {
      at = await after(at, segmentBytes)
      const file: StoredFile | undefined = at === undefined ? undefined : await locate(at)
      if (at === undefined || file === undefined || !(await cache.prefetch(file, segmentBytes))) return
    }
  }

  /** The segment that PostgreSQL requests after this one; undefined: none of the possible ones exists. */
  async function after(name: string, segmentBytes: number): Promise<string | undefined> {
    const place = parseSegmentName(name, segmentBytes)
    if (place === undefined) return undefined
    const { timeline, segment } = place
    const path = [...paths]
      .sort(([one], [other]) => other - one)
      .find(([, stretches]) => isOn(stretches, name, segment, segmentBytes))
    const names =
      path === undefined
        ? [segmentName(timeline, segment + 1, segmentBytes)]
        : segmentsOnPath(path[1], segment + 1, segmentBytes).map((found) => found.name)
    for (const next of names) if ((await locate(next)) !== undefined) return next
    return undefined
  }

  return {
    requested(name, contents) {
      if (name.endsWith('.history')) return remember(timelineOf(name), contents)
      const { length } = contents
      if (name.length !== 24 || length < MIN_SEGMENT_BYTES || length > MAX_SEGMENT_BYTES) return
      if (!Number.isInteger(Math.log2(length)) || clock() - (looks.get(name) ?? -LOOK_MS) < LOOK_MS) return
      looks.delete(name)
      looks.set(name, clock())
      dropOldest(looks, LOOKS)
      void look(name, length).catch(() => undefined)
    },
  }
}

const isOn = (path: TimelinePath, name: string, segment: number, segmentBytes: number): boolean =>
  segmentsOnPath(path, segment, segmentBytes).some((found) => found.name === name)

function dropOldest(map: Map<unknown, unknown>, most: number): void {
  for (const oldest of map.keys()) {
    if (map.size <= most) return
    map.delete(oldest)
  }
}
