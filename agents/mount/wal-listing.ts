/**
 * The segments of an archive in a compact form: a million segments are a few thousand runs, which are cheap to keep,
 * compare and search.
 */
import { join } from 'node:path'
import type { Run, WalGroup, WalListing } from './repository.ts'

const NAME = /^(?:([0-9A-F]{24})(?:\.partial|([^0-9A-F].*))?|([0-9A-F]{8})\.history)$/
/** Backup history files, and files that are still being written. */
const NO_SEGMENT = /\.(backup|tmp)$/
const EXAMPLES_KEPT = 3

/**
 * From the names in a directory: segments, and timelines of history files. A segment name with an unknown suffix is
 * an unreadable segment. Other names are ignored.
 */
export function walListing(
  names: Iterable<string>,
  directory: string,
  remarks: readonly string[] = [],
): WalListing {
  const readable: string[] = []
  const unreadable: string[] = []
  const examples: string[] = []
  const histories = new Set<number>()
  for (const name of names) {
    const [, segment, suffix, timeline] = NAME.exec(name) ?? []
    if (timeline !== undefined) histories.add(Number.parseInt(timeline, 16))
    if (segment === undefined || (suffix !== undefined && NO_SEGMENT.test(suffix))) continue
    if (suffix === undefined) readable.push(segment)
    else {
      unreadable.push(segment)
      if (examples.length < EXAMPLES_KEPT) examples.push(join(directory, name))
    }
  }
  return {
    groups: groupsOf(readable),
    histories: [...histories],
    unreadable: { groups: groupsOf(unreadable), examples },
    remarks,
  }
}

function groupsOf(segments: readonly string[]): WalGroup[] {
  const numbers = new Map<string, number[]>()
  for (const segment of segments) {
    const prefix = segment.slice(0, 16)
    const number = Number.parseInt(segment.slice(16), 16)
    const known = numbers.get(prefix)
    if (known === undefined) numbers.set(prefix, [number])
    else known.push(number)
  }
  return [...numbers].map(([prefix, found]) => ({
    timeline: Number.parseInt(prefix.slice(0, 8), 16),
    log: Number.parseInt(prefix.slice(8), 16),
    runs: joinRuns(found.map((number) => [number, number])),
  }))
}

/** The union. */
export function joinListings(listings: readonly WalListing[]): WalListing {
  return {
    groups: listings.flatMap(({ groups }) => groups),
    histories: [...new Set(listings.flatMap(({ histories }) => histories))],
    unreadable: {
      groups: listings.flatMap(({ unreadable }) => unreadable.groups),
      examples: listings.flatMap(({ unreadable }) => unreadable.examples).slice(0, EXAMPLES_KEPT),
    },
    remarks: [...new Set(listings.flatMap(({ remarks }) => remarks))],
  }
}

/** What a DBA should know about an archive: its remarks, and segments that cannot be decoded. */
export function listingRemarks({ remarks, unreadable }: WalListing): string[] {
  const [example] = unreadable.examples
  return example === undefined
    ? [...remarks]
    : [...remarks, `the WAL archive has segments that cannot be read, such as ${example}: ${READABLE_FORMS}`]
}

/** What can be read, for error messages. */
export const READABLE_FORMS =
  'Howdah reads plain ones and those of gzip, zstd, lz4 and bzip2, in the directory that is configured and in directories named as segments; decompress or move the others'

export function hasSegment({ groups }: WalListing, name: string): boolean {
  const timeline = Number.parseInt(name.slice(0, 8), 16)
  const log = Number.parseInt(name.slice(8, 16), 16)
  const number = Number.parseInt(name.slice(16), 16)
  return groups.some(
    (group) => group.timeline === timeline && group.log === log && runAt(group.runs, number) !== undefined,
  )
}

/** A generator: there may be many. */
export function* segmentNames({ groups }: Pick<WalListing, 'groups'>): Iterable<string> {
  for (const { timeline, log, runs } of groups) {
    for (const [first, last] of runs) {
      for (let number = first; number <= last; number += 1) yield hex(timeline) + hex(log) + hex(number)
    }
  }
}

/** Sorted, overlapping and adjacent runs merged. */
export function joinRuns(runs: readonly Run[]): readonly Run[] {
  const joined: [first: number, last: number][] = []
  for (const [first, last] of runs.toSorted((a, b) => a[0] - b[0])) {
    const previous = joined.at(-1)
    if (previous === undefined || first > previous[1] + 1) joined.push([first, last])
    else if (last > previous[1]) previous[1] = last
  }
  return joined
}

/** Index of the first run that does not end before `number`; the number of runs when all do. @param runs in order */
export function runFrom(runs: readonly Run[], number: number): number {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((runs[middle]?.[1] ?? 0) < number) low = middle + 1
    else high = middle
  }
  return low
}

/** The run that holds `number`. @param runs in order */
export function runAt(runs: readonly Run[], number: number): Run | undefined {
  const run = runs[runFrom(runs, number)]
  return run !== undefined && run[0] <= number ? run : undefined
}

const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
