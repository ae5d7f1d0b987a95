/**
 * Positions in the WAL and the segments that hold them. A position (LSN) is a bigint of bytes; a segment's number is
 * the position divided by the segment size (access/xlog_internal.h: XLByteToSeg, XLogFileName).
 */
import { HowdahError } from '../../messages/errors.ts'

const LSN = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i

/** `0/422AB08` as a number of bytes; undefined when it is none. */
export function lsnOf(text: string | undefined): bigint | undefined {
  const parts = text === undefined ? null : LSN.exec(text)
  return parts === null ? undefined : (BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`)
}

/** As `lsnOf`. @throws HowdahError `invalid_message` when it is none */
export function parseLsn(text: string): bigint {
  const lsn = lsnOf(text)
  if (lsn !== undefined) return lsn
  throw new HowdahError('invalid_message', `"${text}" is not an LSN; one looks like 0/422AB08`, {
    field: 'recoverTo.value',
  })
}

export function formatLsn(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`.toUpperCase()
}

export const segmentAt = (lsn: bigint, segmentBytes: number): number => Number(lsn / BigInt(segmentBytes))

/** The position at which a segment starts. */
export const segmentStart = (segment: number, segmentBytes: number): bigint =>
  BigInt(segment) * BigInt(segmentBytes)

export function segmentName(timeline: number, segment: number, segmentBytes: number): string {
  const perLog = 0x1_0000_0000 / segmentBytes
  return hex(timeline) + hex(Math.floor(segment / perLog)) + hex(segment % perLog)
}

/** Timeline and number of the segment with that name; undefined when no segment of that size has it. */
export function parseSegmentName(
  name: string,
  segmentBytes: number,
): { readonly timeline: number; readonly segment: number } | undefined {
  const perLog = 0x1_0000_0000 / segmentBytes
  const within = Number.parseInt(name.slice(16), 16)
  if (within >= perLog) return undefined
  return {
    timeline: timelineOf(name),
    segment: Number.parseInt(name.slice(8, 16), 16) * perLog + within,
  }
}

/** The segment that holds the byte before `lsn`: the last one that recovery to it needs (XLByteToPrevSeg). */
export const segmentBefore = (lsn: bigint, timeline: number, segmentBytes: number): string =>
  segmentName(timeline, segmentAt(lsn > 0n ? lsn - 1n : 0n, segmentBytes), segmentBytes)

/** The next segment on the same timeline; undefined as for `parseSegmentName`. */
export function segmentAfter(name: string, segmentBytes: number): string | undefined {
  const place = parseSegmentName(name, segmentBytes)
  return place && segmentName(place.timeline, place.segment + 1, segmentBytes)
}

/** Name of a timeline's history file (access/xlog_internal.h: TLHistoryFileName). */
export const historyName = (timeline: number): string => `${hex(timeline)}.history`

/** Of a segment or history file's name. */
export const timelineOf = (name: string): number => Number.parseInt(name.slice(0, 8), 16)

const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
