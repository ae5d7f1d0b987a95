/**
 * WAL segments that are complete on this machine before PostgreSQL asks for them: its restore command renames one, which
 * costs less than copying it out of the mount. They are transferred as they are stored and decoded here, where the mount
 * server supports that. This file decides which segments are made ready; ready-segment.ts makes them.
 *
 * Fetching ahead is speculative: an error of a missing or damaged segment is not reported here, but to the read in the
 * mount.
 */
import { existsSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import type { Logger } from 'pino'
import { segmentAfter } from '../../../wal/lsn.ts'
import { makeSegmentReady, type ReadyOutcome, type ReadySegmentOptions } from './ready-segment.ts'

export interface ReadyWalOptions extends ReadySegmentOptions {
  readonly logger: Logger
}

export interface ReadyWal {
  /**
   * A reader wants this file of the archive: returns its size, if possible after it was made ready; undefined: the
   * archive does not have it. Segments wanted in sequence are made ready ahead, more with each.
   * @throws as `BackupSource.walSize`
   */
  wanted(name: string): Promise<number | undefined>
  /** No segment is wanted for now: removes the ready ones and those being fetched. Never rejects. */
  clear(): Promise<void>
}

interface Segment {
  /** Never rejects. */
  readonly outcome: Promise<ReadyOutcome>
  dropped: boolean
}

/** Source of names: PostgreSQL, access/xlog_internal.h (XLogFileName). */
const SEGMENT = /^[0-9A-F]{24}$/
/** Limits of what is made ready ahead of the wanted segment; one is, however large. */
const AHEAD_SEGMENTS = 4
const AHEAD_BYTES = 64 * 1024 ** 2
/** Segments fetched at a time. */
const MAX_FETCHING = 2

export function createReadyWal(options: ReadyWalOptions): ReadyWal {
  const { directory, source, logger } = options
  const segments = new Map<string, Segment>()
  let fetching = 0
  /** The segment wanted last. */
  let current: string | undefined
  /** The size of all segments of an instance; known once the first is ready. */
  let segmentBytes: number | undefined
  /** How many segments to make ready ahead. */
  let ahead = 0
  /** The first unavailable segment after the current one; requested again once another is wanted. */
  let missing: string | undefined

  async function wanted(name: string): Promise<number | undefined> {
    if (!SEGMENT.test(name)) return source.size(name)
    for (const retry of [true, false]) {
      const segment = moveTo(name)
      const outcome = await segment.outcome
      if (outcome === 'absent') return undefined
      if (outcome === 'unavailable') break
      if (existsSync(`${directory}/${name}`)) return outcome
      // It was taken earlier.
      if (retry && segments.get(name) === segment) segments.delete(name)
    }
    return source.size(name)
  }

  /** Makes a segment the current one, and drops those that do not follow it. */
  function moveTo(name: string): Segment {
    if (current !== name) {
      const follows = current !== undefined && name === following(current)[0]
      ahead = follows ? 2 * ahead : 1
      missing = undefined
      current = name
      const kept = new Set([name, ...following(name)])
      for (const other of segments.keys()) if (!kept.has(other)) void drop(other)
    }
    const segment = segments.get(name) ?? start(name)
    startFollowing()
    return segment
  }

  /** Starts fetching segments after the current one, as far as the limits allow. */
  function startFollowing(): void {
    if (current === undefined || segmentBytes === undefined) return
    const most = Math.max(1, Math.floor(AHEAD_BYTES / segmentBytes))
    for (const next of following(current).slice(0, Math.min(ahead, most))) {
      if (fetching >= MAX_FETCHING || next === missing) return
      if (!segments.has(next)) start(next)
    }
  }

  /** The segments that may be made ready after one; none before their size is known. */
  function following(name: string): string[] {
    const names: string[] = []
    if (segmentBytes === undefined) return names
    for (
      let next = segmentAfter(name, segmentBytes);
      next !== undefined && names.length < AHEAD_SEGMENTS;
      next = segmentAfter(next, segmentBytes)
    ) {
      names.push(next)
    }
    return names
  }

  function start(name: string): Segment {
    fetching += 1
    const { promise, resolve } = Promise.withResolvers<ReadyOutcome>()
    const segment: Segment = { outcome: promise, dropped: false }
    segments.set(name, segment)
    void makeSegmentReady(name, segmentBytes, () => segment.dropped, options)
      .catch((err: unknown): ReadyOutcome => {
        if (!segment.dropped) logger.debug({ err, file: name }, 'a WAL segment was not made ready')
        return 'unavailable'
      })
      .then((outcome) => {
        fetching -= 1
        if (typeof outcome === 'number') segmentBytes = outcome
        else {
          if (segments.get(name) === segment) segments.delete(name)
          if (name !== current) missing ??= name
        }
        resolve(outcome)
        startFollowing()
      })
    return segment
  }

  async function drop(name: string): Promise<void> {
    const segment = segments.get(name)
    if (segment === undefined) return
    segment.dropped = true
    segments.delete(name)
    // Missing when it was taken or is not ready yet.
    await unlink(`${directory}/${name}`).catch(() => undefined)
  }

  return {
    wanted,
    async clear() {
      current = undefined
      await Promise.all([...segments.keys()].map(drop))
    },
  }
}
