/** Composes an opened backup of its parts: tree, locations of the bytes, WAL. The same for every format. */

import { HowdahError } from '../../../messages/errors.ts'
import type { BackupSummary } from '../../../messages/values.ts'
import type { BackupSource, TreeEntry } from '../../dataplane/backup-source.ts'
import { readRanges } from '../../dataplane/server/read-ranges.ts'
import type { ComposedFile, StoredFile } from '../decode/stored-file.ts'
import type { OpenBackup } from '../repository.ts'
import type { Spool } from '../spool/spool.ts'
import type { BackupTree } from './tree.ts'
import type { WalFiles } from './wal-files.ts'

export interface BackupParts<Source> {
  readonly summary: BackupSummary
  readonly tree: BackupTree<Source>
  /** Called once per file, when it is first read. */
  readonly storedFile: (source: Source, entry: TreeEntry) => StoredFile | ComposedFile
  readonly wal: WalFiles
  readonly pageErrors?: readonly string[]
}

export function openBackup<Source>(parts: BackupParts<Source>, spool: Spool): OpenBackup {
  const { summary, tree, wal } = parts
  const files = new Map<number, StoredFile | ComposedFile>()

  function fileAt(number: number): StoredFile | ComposedFile {
    const known = files.get(number)
    if (known !== undefined) return known
    const found = tree.source(number)
    if (found === undefined) {
      throw new HowdahError('invalid_message', `backup ${summary.label} has no file ${number}`)
    }
    const made = parts.storedFile(found.source, found.entry)
    files.set(number, made)
    return made
  }

  const read: BackupSource['read'] = async (number, offset, length, signal) => {
    const file = fileAt(number)
    return 'region' in file ? spool.read(file, offset, length, signal) : file.read(offset, length, signal)
  }

  return {
    summary,
    totalBytes: tree.totalBytes,
    fileCount: tree.fileCount,
    tablespaces: tree.tablespaces,
    pageErrors: parts.pageErrors ?? [],
    entry: (path) => tree.find(path),
    async *tree() {
      yield* tree.entries()
    },
    read,
    readMany: (ranges, signal) => readRanges(read, ranges, signal),
    walSize: (name) => wal.size(name),
    walRead: (name, offset, length, signal) => wal.read(name, offset, length, signal),
    walStored: (name) => wal.stored(name),
    walReadStored: (name, offset, length, signal) => wal.readStored(name, offset, length, signal),
    async close() {
      files.clear()
    },
  }
}
