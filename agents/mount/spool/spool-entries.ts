/**
 * Which files the spool's directory has, least recently used first, and how many bytes they take. Adopts the complete
 * files of an earlier process and evicts files that are not in use, to stay within a number of bytes.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import type { DescriptorCache } from '../decode/descriptor-cache.ts'
import type { Decode } from './file-decode.ts'

/** One file of the directory, complete or being decoded. */
export interface Entry {
  readonly path: string
  /** Bytes that it takes in the directory. */
  readonly size: number
  /** While it is being decoded, and after that failed. */
  decode: Decode | undefined
  failedAt: number | undefined
  /** Reads under way. */
  users: number
}

export interface SpoolEntries {
  /** The entry of a key, which counts as used now. */
  get(key: string): Entry | undefined
  has(key: string): boolean
  add(key: string, made: Pick<Entry, 'path' | 'size' | 'decode'>): Entry
  /** Sets what an entry takes; nothing happens when it is no longer the one of its key. @returns whether it is */
  resize(key: string, entry: Entry, size: number): boolean
  /** Forgets an entry; its file stays. */
  remove(key: string, entry: Entry): void
  /** Forgets an entry and removes its file, or cancels its decode, which then removes its part file. */
  evict(key: string, entry: Entry): void
  /** Evicts the least recently used files that are not in use until `more` bytes fit, or none is left. */
  makeRoom(more: number): void
  /** Evicts a decode without readers when there are `most` or more decodes. */
  limitDecodes(most: number): void
  /** Where the complete file of a key goes. */
  pathOf(key: string): string
  /** A new name for a part file of a key. */
  partOf(key: string): string
  removeFile(path: string): void
  decodes(): Decode[]
  /** That all entries take. */
  readonly bytes: number
}

export interface SpoolEntriesOptions {
  readonly directory: string
  readonly maxBytes: number
  readonly descriptors: DescriptorCache
  readonly logger: Logger
}

const SUFFIX = '.plain'
const OWN_FILE = /^[0-9a-f]{64}\.(plain|\d+\.part)$/

type Sized = { -readonly [K in keyof Entry]: Entry[K] }

const isInUse = ({ users, decode }: Entry) => users > 0 || decode?.busy === true

export function openSpoolEntries({
  directory,
  maxBytes,
  descriptors,
  logger,
}: SpoolEntriesOptions): SpoolEntries {
  const entries = new Map<string, Sized>()
  let bytes = 0
  let parts = 0

  function add(key: string, made: Pick<Entry, 'path' | 'size' | 'decode'>): Entry {
    const entry: Sized = { ...made, failedAt: undefined, users: 0 }
    entries.set(key, entry)
    bytes += entry.size
    return entry
  }

  function remove(key: string, entry: Entry): void {
    if (entries.get(key) !== entry) return
    entries.delete(key)
    bytes -= entry.size
  }

  function makeRoom(more: number): void {
    for (const [key, entry] of entries) {
      if (bytes + more <= maxBytes) return
      if (!isInUse(entry)) evict(key, entry)
    }
  }

  function removeFile(path: string): void {
    rm(path, { force: true }).catch((error: unknown) =>
      logger.warn({ error, path }, 'a spool file cannot be removed'),
    )
  }

  function evict(key: string, entry: Entry): void {
    remove(key, entry)
    if (entry.decode === undefined) {
      descriptors.forget(entry.path)
      removeFile(entry.path)
    } else {
      entry.decode.cancel(new HowdahError('repository_unavailable', 'the spool needed the room'))
    }
  }

  /** Takes over complete files of an earlier process; removes incomplete ones. */
  function adopt(): void {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const found = readdirSync(directory)
      .filter((name) => OWN_FILE.test(name))
      .map((name) => ({ name, stat: statSync(join(directory, name)) }))
      .sort((a, b) => a.stat.mtimeMs - b.stat.mtimeMs)
    for (const { name, stat } of found) {
      const path = join(directory, name)
      if (!name.endsWith(SUFFIX)) rmSync(path, { force: true })
      else add(name.slice(0, -SUFFIX.length), { path, size: stat.size, decode: undefined })
    }
    makeRoom(0)
  }

  adopt()
  return {
    get(key) {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      entries.delete(key)
      entries.set(key, entry)
      return entry
    },
    has: (key) => entries.has(key),
    add,
    resize(key, entry, size) {
      const current = entries.get(key)
      if (current === undefined || current !== entry) return false
      bytes += size - current.size
      current.size = size
      return true
    },
    remove,
    evict,
    makeRoom,
    limitDecodes(most) {
      const running = [...entries].filter(([, { decode }]) => decode !== undefined)
      const idle = running.length < most ? undefined : running.find(([, entry]) => !isInUse(entry))
      if (idle !== undefined) evict(...idle)
    },
    pathOf: (key) => join(directory, `${key}${SUFFIX}`),
    partOf(key) {
      parts += 1
      return join(directory, `${key}.${parts}.part`)
    },
    removeFile,
    get bytes() {
      return bytes
    },
    decodes: () => [...entries.values()].flatMap(({ decode }) => decode ?? []),
  }
}
