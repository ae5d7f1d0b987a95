/** Classifies the names in a directory of WAL: segments, names that are not understood, and remarks for a DBA. Pure. */
import type { Dirent } from 'node:fs'
import { basename, join } from 'node:path'
import type { WalListing } from '../../repository.ts'
import { segmentNames, walListing } from '../../wal-listing.ts'

/** Names that archiving and file systems create beside segments. */
const NO_WAL = /^(archive_status|summaries|lost\+found|\..*)$/
/** The name of a segment, anywhere in a name, in upper or lower case. */
const LIKE_SEGMENT = /[0-9A-F]{24}/i

export interface Listed {
  readonly wal: WalListing
  readonly directories: readonly string[]
  /** Number of files of any name. */
  readonly files: number
  /** Number of files that look like WAL and are not understood. */
  readonly strange: number
  readonly example: string | undefined
}

/**
 * Directories that archive programs create for the first digits of a segment, or for an instance. Others may belong to
 * another cluster, whose segments have the same names.
 */
export const isSearched = (path: string, instance: string) =>
  /^[0-9A-F]{8}([0-9A-F]{8})?$/.test(basename(path)) || basename(path) === instance

export function unreadableOf({ groups, unreadable }: WalListing, path: string): WalListing {
  const [first] = segmentNames({ groups })
  const examples = first === undefined ? unreadable.examples : [join(path, first)]
  return {
    groups: [],
    histories: [],
    unreadable: { groups: [...groups, ...unreadable.groups], examples },
    remarks: [],
  }
}

export function classifyNames(entries: readonly Dirent[], directory: string): Listed {
  const names: string[] = []
  const directories: string[] = []
  const strange: string[] = []
  let any: string | undefined
  for (const entry of entries) {
    const { name } = entry
    if (NO_WAL.test(name)) continue
    if (entry.isDirectory()) directories.push(name)
    else {
      any ??= name
      names.push(name.replace(/\.(gz|lz4|zst|bz2)(?=$|\.partial$)/, ''))
      if (LIKE_SEGMENT.test(name) && !/^[0-9A-F]{24}(?![0-9A-F])/.test(name)) strange.push(name)
    }
  }
  return {
    wal: walListing(names, directory),
    directories,
    files: names.length,
    strange: strange.length,
    example: strange[0] ?? any,
  }
}

export function remarksOn(
  directory: string,
  { groups, unreadable }: WalListing,
  all: readonly (readonly [directory: string, listing: Listed])[],
): string[] {
  const sum = (of: (listing: Listed) => number) => all.reduce((total, [, listing]) => total + of(listing), 0)
  const place = `${directory}, the walPath,`
  const [files, strange] = [sum((one) => one.files), sum((one) => one.strange)]
  if (files === 0) return [`${place} is empty: is its file system mounted?`]
  const isEmpty = groups.length === 0 && unreadable.groups.length === 0
  if (strange === 0 && !isEmpty) return []
  const [where, { example }] = all.find(([, one]) => (strange > 0 ? one.strange > 0 : one.files > 0)) ??
    all[0] ?? [directory, { example: undefined }]
  const such = `such as ${join(where, example ?? '')}`
  return [
    strange > 0
      ? `${place} has ${strange} files whose names are not understood, ${such}: a segment is found by its own name of 24 hexadecimal digits, in capitals, plain or with .gz, .lz4, .zst or .bz2`
      : `${place} has no WAL: none of its ${files} files has the name of a segment, ${such}`,
  ]
}
