/**
 * The blocks of a backup that a publish touched until the instance was usable, by path, so that the next publish can
 * fetch them in one request; and their file, `<root>/<repository>-<instance>.touched.json`. The engine records; the main
 * thread, which may wait for the disk, loads and saves.
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { BLOCK } from '../contents/block-map.ts'
import type { Ino } from '../file-system.ts'
import type { BaseTree } from '../tree/base-tree.ts'

/** Plain data. */
export interface TouchedRecord {
  readonly version: 1
  /** Paths in the published tree. */
  readonly paths: readonly string[]
  /** Index of the path, first block, count of blocks; repeated, in the order in which they were touched. */
  readonly ranges: readonly number[]
}

/** 64 MiB, more than a start of PostgreSQL reads before recovery. */
const MAX_BLOCKS = 8192
const MAX_TEXT_BYTES = 4 * 1024 * 1024

export class TouchRecorder {
  readonly #seen = new Map<Ino, Set<number>>()
  readonly #ranges: { ino: Ino; first: number; count: number }[] = []
  #blocks = 0

  /** Records blocks of an inode's content in the backup. */
  touch(ino: Ino, first: number, last: number): void {
    let seen = this.#seen.get(ino)
    if (seen === undefined) {
      seen = new Set()
      this.#seen.set(ino, seen)
    }
    for (let block = first; block <= last && this.#blocks < MAX_BLOCKS; block++) {
      if (seen.has(block)) continue
      seen.add(block)
      this.#blocks++
      const before = this.#ranges.at(-1)
      if (before?.ino === ino && before.first + before.count === block) before.count++
      else this.#ranges.push({ ino, first: block, count: 1 })
    }
  }

  record(base: Pick<BaseTree, 'path'>): TouchedRecord {
    const indexes = new Map([...this.#seen.keys()].map((ino, index) => [ino, index]))
    return {
      version: 1,
      paths: [...this.#seen.keys()].map((ino) => base.path(ino)),
      ranges: this.#ranges.flatMap(({ ino, first, count }) => [indexes.get(ino) ?? 0, first, count]),
    }
  }
}

/** Bytes of the recorded blocks. */
export function touchedBytes({ ranges }: TouchedRecord): number {
  return ranges.reduce((sum, number, index) => (index % 3 === 2 ? sum + number * BLOCK : sum), 0)
}

/** The record of an instance; undefined when there is none, or its file is invalid. */
export async function loadTouched(
  root: string,
  repository: string,
  instance: string,
): Promise<TouchedRecord | undefined> {
  return loadTouchedFile(recordPath(root, repository, instance))
}

/** The record in a file; undefined when the file is missing or invalid. */
export async function loadTouchedFile(path: string): Promise<TouchedRecord | undefined> {
  try {
    const text = await readFile(path, 'utf8')
    const record: unknown = text.length > MAX_TEXT_BYTES ? undefined : JSON.parse(text)
    return isRecord(record) ? record : undefined
  } catch {
    return undefined
  }
}

/** Replaces the record of an instance atomically. @throws the error of the file system */
export async function saveTouched(
  root: string,
  repository: string,
  instance: string,
  record: TouchedRecord,
): Promise<void> {
  const text = JSON.stringify(record)
  if (text.length > MAX_TEXT_BYTES) return
  await mkdir(root, { recursive: true, mode: 0o700 })
  const path = recordPath(root, repository, instance)
  const draft = `${path}.${randomUUID()}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.datasync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}

/** Names come from messages: unsafe characters are replaced in the file name, and a digest keeps names distinct. */
function recordPath(root: string, repository: string, instance: string): string {
  const plain = `${repository}-${instance}`
  const name = plain.replace(/[^A-Za-z0-9_.-]/g, '_').slice(0, 100)
  const digest = createHash('sha256')
    .update(JSON.stringify([repository, instance]))
    .digest('hex')
  return `${root}/${name}-${digest.slice(0, 12)}.touched.json`
}

function isRecord(value: unknown): value is TouchedRecord {
  if (typeof value !== 'object' || value === null) return false
  const { version, paths, ranges } = value as Partial<TouchedRecord>
  if (version !== 1 || !Array.isArray(paths) || !Array.isArray(ranges) || ranges.length % 3 !== 0)
    return false
  return (
    paths.every((path) => typeof path === 'string') &&
    ranges.every((number) => Number.isSafeInteger(number) && number >= 0)
  )
}
