/**
 * Where and when a backup ended according to its WAL: for backups that do not record it, or only by the times of their
 * files. Sources are the backup history file in the archive (`<segment>.<offset>.backup`, access/transam/xlogbackup.c)
 * and the record that ends the backup; backups of a standby have neither.
 */
import type { BackupSummary } from '../../../messages/values.ts'
import { formatLsn, lsnOf, segmentAt, segmentBefore, segmentName } from '../../wal/lsn.ts'
import { readSegmentHeader } from '../../wal/wal-pages.ts'
import type { WalArchive } from '../repository.ts'
import { isoTime } from './recovery-target.ts'
import type { PathSegment } from './timelines.ts'
import type { WalInspector } from './wal-inspector.ts'

/** Segments that are searched for the end of a backup; a later end is not found. */
const MAX_SEGMENTS = 256

export type BackupEnd = Pick<BackupSummary, 'stopLsn' | 'stopWal' | 'stoppedAt'>

/**
 * What was found; `stoppedAt` is never later than the end.
 * @throws HowdahError as `WalArchive.read`
 */
export async function findBackupEnd(
  { startWal, startLsn, stopLsn, timeline, startedAt }: BackupSummary,
  archive: WalArchive,
  inspector: WalInspector,
): Promise<BackupEnd> {
  const start = lsnOf(startLsn)
  if (startWal === undefined || start === undefined || timeline === undefined) return {}
  const first = await archive.read(startWal)
  const segmentBytes = first && readSegmentHeader(first)?.segmentBytes
  if (segmentBytes === undefined) return {}
  const history = await readHistory(archive, startWal, start, segmentBytes)
  const stop =
    lsnOf(stopLsn) ?? history.stop ?? (await endInWal(archive, inspector, timeline, start, segmentBytes))
  if (stop === undefined) return {}
  const last = segmentAt(stop - 1n, segmentBytes)
  const segments: PathSegment[] = []
  for (let segment = segmentAt(start, segmentBytes); segment <= last; segment += 1) {
    const name = segmentName(timeline, segment, segmentBytes)
    segments.push({ name, segment, segmentBytes, before: segment === last ? stop : undefined })
  }
  // The backup was still being taken when the last transaction before its end committed or aborted.
  const { lastTime } = await inspector.end(archive, segments)
  const stoppedAt = history.at ?? latest(startedAt, isoTime(lastTime))
  return {
    stopLsn: formatLsn(stop),
    stopWal: segmentBefore(stop, timeline, segmentBytes),
    ...(stoppedAt !== undefined && { stoppedAt }),
  }
}

async function readHistory(
  archive: WalArchive,
  startWal: string,
  start: bigint,
  segmentBytes: number,
): Promise<{ readonly stop?: bigint | undefined; readonly at?: string | undefined }> {
  const offset = (start % BigInt(segmentBytes)).toString(16).toUpperCase().padStart(8, '0')
  const text = (await archive.read(`${startWal}.${offset}.backup`))?.toString('utf8') ?? ''
  const [, stop] = /^STOP WAL LOCATION: ([0-9A-F]{1,8}\/[0-9A-F]{1,8}) /m.exec(text) ?? []
  // Abbreviations of other time zones are ambiguous.
  const [, at] = /^STOP TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)$/m.exec(text) ?? []
  return { stop: lsnOf(stop), at: at === undefined ? undefined : `${at.replace(' ', 'T')}.000Z` }
}

async function endInWal(
  archive: WalArchive,
  inspector: WalInspector,
  timeline: number,
  start: bigint,
  segmentBytes: number,
): Promise<bigint | undefined> {
  const first = segmentAt(start, segmentBytes)
  for (let segment = first; segment < first + MAX_SEGMENTS; segment += 1) {
    const name = segmentName(timeline, segment, segmentBytes)
    const summary = await inspector.summary(archive, { name, segment, segmentBytes, before: undefined })
    const found = summary?.backupEnds.find((one) => one.start === start)
    if (summary === undefined || found !== undefined) return found?.end
  }
  return undefined
}

function latest(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return Date.parse(a) > Date.parse(b) ? a : b
}
