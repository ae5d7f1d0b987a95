/**
 * WAL that a backup contains: that of a server which was stopped while it was copied, or what the backup tool copied
 * there. Such a backup is consistent without an archive, and may be recovered further with one. The archive takes
 * precedence, because the server continued to write the segment in which it was stopped when it was started again.
 */
import { HowdahError } from '../../messages/errors.ts'
import type { BackupSummary } from '../../messages/values.ts'
import { formatLsn, segmentAt, segmentName } from '../wal/lsn.ts'
import type { OpenBackup, WalArchive } from './repository.ts'
import { joinListings, walListing } from './wal-listing.ts'

/** Before version 10 the directory had another name. */
const WAL = /^data\/(?:pg_wal|pg_xlog)\/([0-9A-F]{24}|[0-9A-F]{8}\.history)$/
const CONTROL = 'data/global/pg_control'
/** PG_CONTROL_VERSION of 11, which no longer has the LSN of the previous checkpoint. */
const VERSION_11 = 1100
/** DBState of catalog/pg_control.h. */
const SHUTDOWNED = 1
const CONTROL_HEAD_BYTES = 64

export interface OwnWal {
  /** Of a stopped server: where it starts. Only crash recovery can find anything later in the backup. */
  readonly position?: Pick<BackupSummary, 'startLsn' | 'stopLsn' | 'startWal' | 'stopWal' | 'timeline'>
  /** Names of the segments and history files that a stopped server needs to start. */
  readonly needed?: readonly string[]
  /** Name → path in the tree, of what it needs: pg_wal also has recycled segments, which hold nothing of use. */
  readonly files: ReadonlyMap<string, string>
}

/** @throws HowdahError `backup_damaged` when the backup lacks what the server needs to start; as `OpenBackup.read` */
export async function findOwnWal(backup: OpenBackup): Promise<OwnWal> {
  const { label } = backup.summary
  const files = new Map<string, string>()
  let segmentBytes = 0
  for await (const entries of backup.tree()) {
    for (const { path, size } of entries) {
      const [, name] = WAL.exec(path) ?? []
      if (name === undefined) continue
      files.set(name, path)
      if (name.length === 24) segmentBytes = Math.max(segmentBytes, size)
    }
  }
  const control = backup.entry(CONTROL)
  const head =
    control?.file === undefined ? undefined : await backup.read(control.file, 0, CONTROL_HEAD_BYTES)
  if (head === undefined || head.length < CONTROL_HEAD_BYTES || segmentBytes === 0) {
    throw new HowdahError(
      'backup_damaged',
      `backup ${label} was taken of a server that was stopped, and lacks its pg_control or its WAL`,
    )
  }
  // CheckPoint is the last checkpoint's copy: XLogRecPtr redo, TimeLineID ThisTimeLineID.
  const at = head.readUInt32LE(8) >= VERSION_11 ? 40 : 48
  const [redo, timeline] = [head.readBigUInt64LE(at), head.readUInt32LE(at + 8)]
  const first = segmentName(timeline, segmentAt(redo, segmentBytes), segmentBytes)
  const isStopped = head.readInt32LE(16) === SHUTDOWNED
  const segments = [...files.keys()].filter((name) =>
    isStopped ? name === first : name.length === 24 && name >= first,
  )
  if (!segments.includes(first)) {
    throw new HowdahError(
      'backup_damaged',
      `backup ${label} was taken of a server that was stopped, and lacks the WAL segment ${first} that it starts with`,
    )
  }
  const lsn = formatLsn(redo)
  const needed = [...segments, ...[...files.keys()].filter((name) => name.endsWith('.history'))].sort()
  return {
    position: { startLsn: lsn, stopLsn: lsn, startWal: first, stopWal: first, timeline },
    needed,
    files: new Map(needed.map((name) => [name, files.get(name) ?? ''])),
  }
}

/**
 * WAL that the tool copied into a backup of a running server, as pgBackRest does with archive-copy.
 * @throws as `OpenBackup.tree`
 */
export async function findCopiedWal(backup: OpenBackup): Promise<OwnWal> {
  const files = new Map<string, string>()
  for await (const entries of backup.tree()) {
    for (const { path } of entries) {
      const [, name] = WAL.exec(path) ?? []
      if (name !== undefined) files.set(name, path)
    }
  }
  return { files }
}

/** The opened backup, which reads its own WAL where the archive has none. */
export function backupWithOwnWal(backup: OpenBackup, { files, needed }: OwnWal): OpenBackup {
  const own = (name: string) => backup.entry(files.get(name) ?? '')
  return {
    ...backup,
    ...(needed && { ownWal: needed }),
    walSize: async (name) => (await backup.walSize(name)) ?? own(name)?.size,
    async walRead(name, offset, length, signal) {
      if ((await backup.walSize(name)) !== undefined) return backup.walRead(name, offset, length, signal)
      const entry = own(name)
      if (entry === undefined) return backup.walRead(name, offset, length, signal)
      return entry.file === undefined ? Buffer.alloc(0) : backup.read(entry.file, offset, length, signal)
    },
  }
}

/** The archive of such a backup, supplemented by its own WAL. @param open opens the backup without it */
export function archiveWithOwnWal(
  archive: WalArchive,
  label: string,
  { files }: OwnWal,
  open: () => Promise<OpenBackup>,
): WalArchive {
  return {
    id: `${archive.id} and that of ${label}`,
    isOwn: async (name) => files.has(name) && (await archive.stat(name)) === undefined,
    async list() {
      const listing = await archive.list()
      const own = walListing(files.keys(), label)
      // An archive that never existed is not missing.
      const isEmpty = listing.groups.length === 0 && listing.unreadable.groups.length === 0
      return joinListings([isEmpty ? { ...listing, remarks: [] } : listing, own])
    },
    async read(name) {
      const archived = await archive.read(name)
      const path = files.get(name)
      if (archived !== undefined || path === undefined) return archived
      const backup = await open()
      try {
        const entry = backup.entry(path)
        return entry?.file === undefined ? undefined : await backup.read(entry.file, 0, entry.size)
      } finally {
        await backup.close()
      }
    },
    async stat(name) {
      const archived = await archive.stat(name)
      if (archived !== undefined || !files.has(name)) return archived
      return { identity: JSON.stringify([label, name]), storedAt: 0 }
    },
  }
}
