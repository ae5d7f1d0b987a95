/** A backup made in memory, which counts its reads and can delay or fail them. */
import { setTimeout } from 'node:timers/promises'
import type { BackupSource, TreeEntry } from '../../../agents/dataplane/backup-source.ts'
import { readRanges } from '../../../agents/dataplane/server/read-ranges.ts'

export interface MemorySource extends BackupSource {
  /** Every read so far: file path, offset and length in bytes. */
  readonly reads: { path: string; offset: number; length: number }[]
  /** While set, reads wait for it. */
  gate: Promise<void> | undefined
  failing: boolean
  /** What reads fail with. */
  failure: Error | undefined
}

/** `files`: paths below the root, such as `data/base/1/123`, with their contents; their directories are made. */
export function memorySource(
  files: Readonly<Record<string, Buffer>>,
  wal: Readonly<Record<string, Buffer>> = {},
  more: readonly TreeEntry[] = [],
): MemorySource {
  const paths = Object.keys(files).sort()
  const directories = new Set(['data'])
  for (const path of paths) {
    const parts = path.split('/')
    for (let count = 1; count < parts.length; count++) directories.add(parts.slice(0, count).join('/'))
  }
  const entries: TreeEntry[] = [
    ...[...directories].sort().map((path) => ({
      path,
      kind: 'directory' as const,
      mode: 0o700,
      mtime: 1000,
      size: 0,
    })),
    ...paths.map((path, file) => {
      const size = files[path]?.length ?? 0
      return { path, kind: 'file' as const, mode: 0o600, mtime: 1000.5, size, ...(size > 0 && { file }) }
    }),
    ...more,
  ]

  const source: MemorySource = {
    reads: [],
    gate: undefined,
    failing: false,
    failure: undefined,
    async *tree() {
      for (let at = 0; at < entries.length; at += 300) yield entries.slice(at, at + 300)
    },
    async read(file, offset, length) {
      const path = paths[file] ?? ''
      source.reads.push({ path, offset, length })
      await (source.gate ?? setTimeout(0))
      if (source.failure !== undefined) throw source.failure
      if (source.failing) throw new Error('the repository is gone')
      return Buffer.from((files[path] ?? Buffer.alloc(0)).subarray(offset, offset + length))
    },
    readMany: (ranges, signal) => readRanges(source.read, ranges, signal),
    walSize: async (name) => wal[name]?.length,
    walRead: async (name, offset, length) =>
      Buffer.from((wal[name] ?? Buffer.alloc(0)).subarray(offset, offset + length)),
    walStored: async () => undefined,
    walReadStored: (name) => Promise.reject(new Error(`${name} is not handed over as it is stored`)),
    async close() {},
  }
  return source
}

/** Bytes that differ from block to block and from file to file. */
export function pattern(length: number, seed = 1): Buffer {
  const buffer = Buffer.alloc(length)
  for (let at = 0; at < length; at++) buffer[at] = (at * 7 + (at >> 13) * 31 + seed * 101) % 251
  return buffer
}
