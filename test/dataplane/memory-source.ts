/** Owns a backup in memory for tests of the data plane: the bytes of file `n` are computed from their position. */
import type { BackupSource, TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { readRanges } from '../../agents/dataplane/server/read-ranges.ts'
import { HowdahError } from '../../messages/errors.ts'

export const FILE_BYTES = 8 * 1024 * 1024
export const WAL_NAME = '000000010000000000000007'
/** How it is stored. */
export const STORED = { bytes: 1000, compression: 'zst', sha1: 'a1'.repeat(20) } as const

const PERIOD = 65_521
const pattern = Buffer.from(
  Uint32Array.from({ length: PERIOD }, (_, i) => Math.imul(i, 2_654_435_761) >>> 24),
)

/** What `read(file, offset, length)` of a memory source returns. */
export function expectedBytes(file: number, offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(offset + length, FILE_BYTES) - offset))
  let from = (offset + file * 4099) % PERIOD
  for (let at = 0; at < bytes.length; from = 0) at += pattern.copy(bytes, at, from)
  return bytes
}

export interface MemorySourceOptions {
  readonly entries?: readonly TreeEntry[]
  /** Called before each read is answered. */
  readonly beforeRead?: (
    file: number,
    offset: number,
    signal: AbortSignal | undefined,
  ) => Promise<void> | void
}

export interface MemorySource extends BackupSource {
  readonly closed: boolean
}

export function createMemorySource(options: MemorySourceOptions = {}): MemorySource {
  let closed = false
  const source: MemorySource = {
    get closed() {
      return closed
    },
    async *tree() {
      const { entries = [] } = options
      for (let at = 0; at < entries.length; at += 500) yield entries.slice(at, at + 500)
    },
    async read(file, offset, length, signal) {
      await options.beforeRead?.(file, offset, signal)
      return expectedBytes(file, offset, length)
    },
    readMany(ranges, signal) {
      return readRanges(source.read, ranges, signal)
    },
    async walSize(name) {
      return name === WAL_NAME ? FILE_BYTES : undefined
    },
    async walRead(name, offset, length) {
      if (name !== WAL_NAME) throw new HowdahError('wal_missing', `The archive has no ${name}.`)
      return expectedBytes(7, offset, length)
    },
    async walStored(name) {
      return name === WAL_NAME ? STORED : undefined
    },
    async walReadStored(name, offset, length) {
      if (name !== WAL_NAME) throw new HowdahError('wal_missing', `The archive has no ${name}.`)
      return expectedBytes(8, offset, length)
    },
    async close() {
      closed = true
    },
  }
  return source
}

/** A tree as a cluster has it: directories of databases full of relation files. */
export function makeTree(files: number): TreeEntry[] {
  const entries: TreeEntry[] = []
  const directory = (path: string) =>
    entries.push({ path, kind: 'directory', mode: 0o700, mtime: 1_700_000_000, size: 0 })
  directory('data')
  directory('data/base')
  for (let i = 0; i < files; i++) {
    const database = `data/base/${16384 + Math.floor(i / 1000)}`
    if (i % 1000 === 0) directory(database)
    const size = i % 3 === 0 ? 0 : i * 8192
    const path = `${database}/${100_000 + i}${i % 10 === 0 ? '_fsm' : ''}`
    const common = { path, kind: 'file', mode: 0o600, mtime: 1_700_000_000 + i / 4, size } as const
    entries.push(size > 0 ? { ...common, file: i } : common)
  }
  return entries
}
