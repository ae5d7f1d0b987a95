/**
 * A pgBackRest repository with as many backups and as much WAL as a test wants: valid info files, and an archive in
 * which all segments are links to a few small files, which begin as a segment does.
 */
import { createHash } from 'node:crypto'
import { linkSync, mkdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { formatLsn, segmentName, segmentStart } from '../../agents/wal/lsn.ts'
import { infoFile } from './large-repository.ts'

export const STANZA = 'demo'
export const SEGMENTS_PER_DIRECTORY = 256
const SEGMENT_BYTES = 16 * 1024 * 1024
/** ext4 has at most 65,000 names for one file. */
const LINKS = 60_000
/** Number of the first segment: archives begin with the first or second one of a directory, this one with a whole one. */
const FIRST = SEGMENTS_PER_DIRECTORY
const BEGIN = 1_700_000_000
const BACKUP_EVERY = 6 * 3600

/** Where the directories of segments lie. */
export const archiveDirectory = (root: string) => join(root, 'archive', STANZA, '15-1')

/** The name of a segment, the first one of the archive being 0. */
export const nameOf = (number: number) => segmentName(1, FIRST + number, SEGMENT_BYTES)

/** Path of its file. */
export const segmentPath = (root: string, number: number) =>
  join(archiveDirectory(root), nameOf(number).slice(0, 16), `${nameOf(number)}-${HEAD.sha1}.gz`)

/** The label of a backup, the oldest being 0. */
export function labelOf(index: number): string {
  const stopped = new Date((BEGIN + index * BACKUP_EVERY) * 1000).toISOString()
  return `${stopped.slice(0, 10).replaceAll('-', '')}-${stopped.slice(11, 19).replaceAll(':', '')}F`
}

/** The backups are as far apart as the WAL allows, each of two segments. */
export function makeLargeArchive(root: string, backups: number, segments: number): void {
  mkdirSync(archiveDirectory(root), { recursive: true })
  const source = join(root, 'segment')
  for (let number = 0; number < segments; number += 1) {
    const path = segmentPath(root, number)
    if (number % SEGMENTS_PER_DIRECTORY === 0) mkdirSync(join(path, '..'))
    if (number % LINKS === 0) {
      if (number > 0) unlinkSync(source)
      writeFileSync(source, HEAD.stored)
    }
    linkSync(source, path)
  }
  unlinkSync(source)
  const directory = join(root, 'backup', STANZA)
  mkdirSync(directory, { recursive: true })
  const labels = Array.from({ length: backups }, (_, index) => labelOf(index))
  for (const label of labels) {
    mkdirSync(join(directory, label))
    writeFileSync(join(directory, label, 'backup.manifest'), '')
  }
  const format = [
    ['backrest-format', 5],
    ['backrest-version', '2.53'],
  ] as const
  const cluster = { 'db-catalog-version': 202209061, 'db-control-version': 1300, 'db-version': '15' }
  writeFileSync(
    join(directory, 'backup.info'),
    infoFile({
      backrest: format,
      'backup:current': labels.map((label, index) => [
        label,
        backupEntry(index, Math.floor((index * segments) / backups)),
      ]),
      'db:history': [['1', { ...cluster, 'db-system-id': 77 }]],
    }),
  )
  writeFileSync(
    join(root, 'archive', STANZA, 'archive.info'),
    infoFile({ backrest: format, 'db:history': [['1', { 'db-id': 77, 'db-version': '15' }]] }),
  )
}

/** As in backup.info. @param first number of the segment that it begins in */
function backupEntry(index: number, first: number): object {
  const stop = BEGIN + index * BACKUP_EVERY
  const start = segmentStart(FIRST + first, SEGMENT_BYTES)
  return {
    'backrest-format': 5,
    'backrest-version': '2.53',
    'backup-archive-start': nameOf(first),
    'backup-archive-stop': nameOf(first + 1),
    'backup-info-repo-size': 123_456_789,
    'backup-info-repo-size-delta': 123_456_789,
    'backup-info-size': 987_654_321,
    'backup-info-size-delta': 987_654_321,
    'backup-lsn-start': formatLsn(start + 40n),
    'backup-lsn-stop': formatLsn(start + BigInt(SEGMENT_BYTES) + 256n),
    'backup-timestamp-start': stop - 60,
    'backup-timestamp-stop': stop,
    'backup-type': 'full',
    'db-id': 1,
    'option-archive-check': true,
    'option-archive-copy': false,
    'option-backup-standby': false,
    'option-checksum-page': true,
    'option-compress': true,
    'option-hardlink': false,
    'option-online': true,
  }
}

/** The first page of a segment (XLogLongPageHeaderData of access/xlog_internal.h), which has the segment size. */
function head(): Buffer {
  const page = Buffer.alloc(8192)
  page.writeUInt16LE(0xd110, 0)
  page.writeUInt16LE(2, 2)
  page.writeUInt32LE(1, 4)
  page.writeBigUInt64LE(segmentStart(FIRST, SEGMENT_BYTES), 8)
  page.writeBigUInt64LE(77n, 24)
  page.writeUInt32LE(SEGMENT_BYTES, 32)
  page.writeUInt32LE(page.length, 36)
  return page
}

const HEAD = { stored: gzipSync(head()), sha1: createHash('sha1').update(head()).digest('hex') }
