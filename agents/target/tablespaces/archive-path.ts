/**
 * The segments that a recovery reads from an archive, one after another, along its timelines. Facts: PostgreSQL
 * documentation, "Timelines"; access/transam/timeline.c: a line of a history file is a parent timeline and the position
 * where it was left, and a segment is read from the newest timeline that has it.
 */
import { historyName, lsnOf, parseSegmentName, segmentName, segmentStart } from '../../wal/lsn.ts'

export interface Archive {
  /** Undefined: the archive does not have it. */
  read(name: string): Promise<Buffer | undefined>
}

interface Left {
  readonly timeline: number
  /** Where the next timeline begins. */
  readonly end: bigint
}

export interface ArchivePath {
  /** Names that a segment of that number may have, the most likely first. */
  namesOf(segment: number): string[]
}

/**
 * @param first the first segment that recovery reads
 * @param wanted the timeline to follow: a number, `current` for the one that it begins on, or `latest`
 */
export async function archivePath(
  archive: Archive,
  first: string,
  segmentBytes: number,
  wanted: number | 'current' | 'latest',
): Promise<ArchivePath> {
  const begun = parseSegmentName(first, segmentBytes)?.timeline ?? 1
  const timeline = wanted === 'current' ? begun : wanted === 'latest' ? await newest(archive, begun) : wanted
  const history = timeline === begun ? [] : await readHistory(archive, timeline)
  const timelines = [timeline, ...history.map((left) => left.timeline).reverse()].filter(
    (each) => each >= begun,
  )
  return {
    namesOf(segment) {
      const start = segmentStart(segment, segmentBytes)
      const usable = timelines.filter((each) => {
        const left = history.find((one) => one.timeline === each)
        return left === undefined || start < left.end
      })
      return usable.map((each) => segmentName(each, segment, segmentBytes))
    },
  }
}

async function newest(archive: Archive, begun: number): Promise<number> {
  let timeline = begun
  while ((await archive.read(historyName(timeline + 1))) !== undefined) timeline += 1
  return timeline
}

async function readHistory(archive: Archive, timeline: number): Promise<Left[]> {
  const text = (await archive.read(historyName(timeline)))?.toString('utf8') ?? ''
  return text.split('\n').flatMap((line) => {
    const [, number, position] = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line) ?? []
    const end = lsnOf(position)
    return number === undefined || end === undefined ? [] : [{ timeline: Number(number), end }]
  })
}
