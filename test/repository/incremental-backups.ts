/** Makes incremental backups of PostgreSQL 17 from the format's description: plain ones, as pg_basebackup leaves them. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openForTest, temporaryDirectory } from './fixture.ts'

/** A repository whose instance `shop` has no backup yet. The caller closes the spool and removes `scratch`. */
export async function openEmptyInstance() {
  const scratch = await temporaryDirectory()
  const path = join(scratch, 'repository')
  const instance = join(path, 'shop')
  await mkdir(instance, { recursive: true })
  return { scratch, instance, ...openForTest({ format: 'basebackup', path }, join(scratch, 'spool')) }
}

export const BLOCK = 8192
export const block = (mark: number) => Buffer.alloc(BLOCK, mark)

/** An incremental file: header, numbers, padding, blocks. */
export function incremental(truncation: number, blocks: ReadonlyMap<number, Buffer>): Buffer {
  const numbers = [...blocks.keys()].sort((a, b) => a - b)
  return incrementalFile(
    [0xd3ae1f0d, numbers.length, truncation, ...numbers],
    [...blocks].sort(([a], [b]) => a - b).map(([, bytes]) => bytes),
  )
}

/** As `incremental`, of any words, also such that PostgreSQL would not write. */
export function incrementalFile(words: readonly number[], blocks: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(words.length * 4)
  for (const [index, word] of words.entries()) header.writeUInt32LE(word, index * 4)
  const padding = blocks.length === 0 ? 0 : (BLOCK - (header.length % BLOCK)) % BLOCK
  return Buffer.concat([header, Buffer.alloc(padding), ...blocks])
}

export const SYSTEM = 77n
/** Of a cluster whose segments have 16 blocks (--with-segsize-blocks). */
export const SEGMENT_BLOCKS = 16

/** Where they are in version 17 (catalog/pg_control.h). */
const FLOAT_FORMAT = { at: 208, value: 1_234_567 }
const PAGE_BYTES_AT = 216
const BLOCKS_PER_FILE_AT = 220

export function controlFile(system: bigint = SYSTEM, pageBytes: number = BLOCK): Buffer {
  const control = Buffer.alloc(BLOCK)
  control.writeBigUInt64LE(system)
  control.writeDoubleLE(FLOAT_FORMAT.value, FLOAT_FORMAT.at)
  control.writeUInt32LE(pageBytes, PAGE_BYTES_AT)
  control.writeUInt32LE(SEGMENT_BLOCKS, BLOCKS_PER_FILE_AT)
  return control
}

export interface MadeBackup {
  readonly label: string
  readonly startLsn: string
  readonly fromLsn?: string
  readonly system?: bigint
  /** By path below PGDATA. */
  readonly files: Readonly<Record<string, Buffer>>
  /** Without a manifest nothing says how long and what the files should be. Default true. */
  readonly manifest?: boolean
}

/** A plain backup, with what every backup has. */
export async function makeBackup(instance: string, made: MadeBackup): Promise<void> {
  const { label, startLsn, fromLsn, system = SYSTEM, files } = made
  const from = fromLsn === undefined ? '' : `INCREMENTAL FROM LSN: ${fromLsn}\nINCREMENTAL FROM TLI: 1\n`
  const all: Record<string, Buffer> = {
    PG_VERSION: Buffer.from('17\n'),
    backup_label: Buffer.from(
      `START WAL LOCATION: ${startLsn} (file 000000010000000000000002)\nSTART TIMELINE: 1\n${from}`,
    ),
    'global/pg_control': controlFile(system),
    ...files,
  }
  const listed = Object.entries(all).map(([Path, bytes]) => ({
    Path,
    Size: bytes.length,
    'Last-Modified': '2026-01-02 03:04:05 GMT',
    'Checksum-Algorithm': 'SHA256',
    Checksum: createHash('sha256').update(bytes).digest('hex'),
  }))
  const head = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": ${system},\n"Files": ${JSON.stringify(listed)},\n"WAL-Ranges": [{ "Timeline": 1, "Start-LSN": "${startLsn}", "End-LSN": "0/7000000" }],\n`
  const own = createHash('sha256').update(head).digest('hex')
  if (made.manifest !== false) all.backup_manifest = Buffer.from(`${head}"Manifest-Checksum": "${own}"}\n`)
  const directory = join(instance, label)
  for (const [path, bytes] of Object.entries(all)) {
    await mkdir(join(directory, path, '..'), { recursive: true })
    await writeFile(join(directory, path), bytes)
  }
}
