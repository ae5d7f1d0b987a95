/** Segments of WAL that there are, each full of its last digit. */
const SEGMENT = /^00000003000000000000000[1-5]$/
const SEGMENT_BYTES = 1024 * 1024

/** A `BackupSource` that serves a plain directory as a backup's `data/`, for tests of what lies above. */
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { BackupSource, TreeEntry } from '../../../agents/dataplane/backup-source.ts'
import { readRanges } from '../../../agents/dataplane/server/read-ranges.ts'

export function directorySource(directory: string): BackupSource & { readonly connected: boolean } {
  const files: string[] = []

  function* walk(path: string): Generator<TreeEntry> {
    const local = join(directory, path.slice('data'.length))
    const { mode, mtimeMs, size } = lstatSync(local)
    const common = { path, mode: mode & 0o7777, mtime: mtimeMs / 1000 }
    if ((mode & 0o170000) === 0o040000) {
      yield { ...common, kind: 'directory', size: 0 }
      for (const name of readdirSync(local).sort()) yield* walk(`${path}/${name}`)
    } else if ((mode & 0o170000) === 0o120000) {
      yield { ...common, kind: 'symlink', size: 0, linkTarget: readlinkSync(local) }
    } else {
      files.push(local)
      yield { ...common, kind: 'file', size, ...(size > 0 && { file: files.length - 1 }) }
    }
  }

  const read: BackupSource['read'] = async (file, offset, length) => {
    // After a restart the tree is not requested, and file numbers are the same on every walk.
    if (files.length === 0) Array.from(walk('data'))
    const buffer = Buffer.alloc(length)
    const fd = openSync(files[file] ?? '', 'r')
    try {
      return buffer.subarray(0, readSync(fd, buffer, 0, length, offset))
    } finally {
      closeSync(fd)
    }
  }

  return {
    connected: true,
    async *tree() {
      files.length = 0
      let batch: TreeEntry[] = []
      for (const entry of walk('data')) {
        batch.push(entry)
        if (batch.length < 500) continue
        yield batch
        batch = []
      }
      yield batch
    },
    read,
    readMany: (ranges, signal) => readRanges(read, ranges, signal),
    async walSize(name) {
      if (name === '00000002.history') return 5
      return SEGMENT.test(name) ? SEGMENT_BYTES : undefined
    },
    async walRead(name, offset, length) {
      if (SEGMENT.test(name)) return Buffer.alloc(length, name.at(-1))
      return Buffer.from('hello').subarray(offset, offset + length)
    },
    walStored: async () => undefined,
    walReadStored: (name) => Promise.reject(new Error(`${name} is not handed over as it is stored`)),
    async close() {},
  }
}
