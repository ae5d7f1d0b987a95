/** A pgBackRest repository of a full and two incremental backups with block incremental files, of any kind. */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  BLOCK_CHECKSUM_BYTES,
  type BlockCompression,
  compress,
  encrypt,
  type PlacedBlock,
  writeBlocks,
  writeMap,
} from './block-writer.ts'
import { infoFile } from './large-repository.ts'

export const PASSPHRASE = 'an operator’s own passphrase'
const BLOCK_BYTES = 8192

export interface BlockRepositoryKind {
  readonly compression: BlockCompression
  readonly encrypted: boolean
}

export interface BlockRepository {
  readonly labels: readonly string[]
  /** Of every backup, by tree path. */
  readonly contents: readonly ReadonlyMap<string, Buffer>[]
}

const LABELS = ['20260102-030405F', '20260102-030405F_20260103-030405I', '20260102-030405F_20260104-030405I']
const SECRETS = { manifest: 'of the manifests', file: 'of the files', archive: 'of the WAL' }

/**
 * Makes stanza `demo` below `root`. Each backup has one large file in a bundle, one with a file of its own, and small
 * ones in their raw form.
 */
export async function makeBlockRepository(
  root: string,
  kind: BlockRepositoryKind,
  random: (limit: number) => number,
): Promise<BlockRepository> {
  const { compression } = kind
  const secret = (text: string) => (kind.encrypted ? text : undefined)
  const encode = (passphrase: string, plain: Buffer, raw: boolean) =>
    encrypt(secret(passphrase), compress(compression, plain, raw), raw)
  const info = (passphrase: string, text: string) => encrypt(secret(passphrase), Buffer.from(text), false)
  const stanza = join(root, 'backup', 'demo')
  const archive = join(root, 'archive', 'demo')
  await mkdir(join(archive, '15-1'), { recursive: true })

  const contents: Map<string, Buffer>[] = []
  const placed = new Map<string, readonly PlacedBlock[]>()
  for (const [index, label] of LABELS.entries()) {
    const directory = join(stanza, label)
    await mkdir(join(directory, 'bundle'), { recursive: true })
    await mkdir(join(directory, 'pg_data', 'base', '1'), { recursive: true })
    const before = contents[index - 1]
    const files = new Map<string, Buffer>()
    const lines: [string, unknown][] = []
    const bundle: Buffer[] = []
    let bundleBytes = 0
    const put = (bytes: Buffer): number => {
      bundle.push(bytes)
      bundleBytes += bytes.length
      return bundleBytes - bytes.length
    }

    for (const [path, isBundled, bytes] of [
      ['base/1/1000', true, 700_000],
      ['base/1/2000', false, 400_000],
    ] as const) {
      const plain = changed(before?.get(`data/${path}`) ?? noise(bytes, random), random, index)
      const offset = isBundled ? bundleBytes : 0
      const { stored, placed: now } = writeBlocks(plain, placed.get(path) ?? [], {
        blockSize: BLOCK_BYTES,
        superBlockSize: index === 0 ? 131_072 : 32_768,
        reference: index,
        bundle: isBundled ? 1 : 0,
        offset,
        encode: (superBlock) => encode(SECRETS.file, superBlock, true),
      })
      const map = encrypt(secret(SECRETS.file), writeMap(now, BLOCK_BYTES), true)
      const region = Buffer.concat([stored, map])
      placed.set(path, now)
      files.set(`data/${path}`, plain)
      if (isBundled) put(region)
      else await writeFile(join(directory, 'pg_data', `${path}.pgbi`), region)
      lines.push([
        `pg_data/${path}`,
        {
          ...{ bi: 1, bim: map.length, ...(isBundled && { bni: 1, ...(offset > 0 && { bno: offset }) }) },
          ...{
            checksum: sha1(plain),
            'repo-size': region.length,
            size: plain.length,
            timestamp: 1_700_000_000,
          },
          ...(BLOCK_CHECKSUM_BYTES !== 6 && { bic: BLOCK_CHECKSUM_BYTES }),
        },
      ])
    }
    for (const [path, plain] of [
      ['PG_VERSION', Buffer.from('15\n')],
      ['global/pg_control', noise(8192, random)],
    ] as const) {
      const stored = encode(SECRETS.file, plain, true)
      files.set(`data/${path}`, plain)
      lines.push([
        `pg_data/${path}`,
        {
          ...{
            bni: 1,
            bno: put(stored),
            checksum: sha1(plain),
            'repo-size': stored.length,
            size: plain.length,
          },
          timestamp: 1_700_000_000,
        },
      ])
    }
    contents.push(files)
    await writeFile(join(directory, 'bundle', '1'), Buffer.concat(bundle))
    const manifest = infoFile({
      backrest: [['backrest-format', 5]],
      backup: [
        ['backup-block-incr', true],
        ['backup-bundle', true],
        ['backup-bundle-raw', true],
        ['backup-label', label],
        ['backup-reference', LABELS.slice(0, index + 1).join(',')],
      ],
      'backup:option': [['option-compress-type', compression]],
      ...(kind.encrypted && { cipher: [['cipher-pass', SECRETS.file]] as const }),
      'target:file': lines.sort(([a], [b]) => (a < b ? -1 : 1)),
      'target:path': ['', '/base', '/base/1', '/global'].map((path) => [`pg_data${path}`, {}] as const),
    })
    await writeFile(join(directory, 'backup.manifest'), info(SECRETS.manifest, manifest))
  }
  await writeFile(join(stanza, 'backup.info'), info(PASSPHRASE, backupInfo(kind.encrypted)))
  const archiveInfo = infoFile({
    ...(kind.encrypted && { cipher: [['cipher-pass', SECRETS.archive]] as const }),
    'db:history': [['1', { 'db-id': 77, 'db-version': '15' }]],
  })
  await writeFile(join(archive, 'archive.info'), info(PASSPHRASE, archiveInfo))
  return { labels: LABELS, contents }
}

function backupInfo(encrypted: boolean): string {
  return infoFile({
    'backup:current': LABELS.map((label, index) => [
      label,
      {
        'backup-archive-start': '000000010000000000000003',
        'backup-archive-stop': '000000010000000000000003',
        ...(index > 0 && { 'backup-prior': LABELS[index - 1] }),
        'backup-timestamp-start': 1_700_000_000 + index * 100,
        'backup-timestamp-stop': 1_700_000_009 + index * 100,
        'backup-type': index === 0 ? 'full' : 'incr',
        'db-id': 1,
      },
    ]),
    ...(encrypted && { cipher: [['cipher-pass', SECRETS.manifest]] as const }),
    'db:history': [['1', { 'db-system-id': 77, 'db-version': '15' }]],
  })
}

const sha1 = (bytes: Buffer) => createHash('sha1').update(bytes).digest('hex')

/** Compresses to about the half. */
function noise(bytes: number, random: (limit: number) => number): Buffer {
  const made = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += 2) made[at] = random(256)
  return made
}

/** As it is, or with some blocks changed and another length. */
function changed(plain: Buffer, random: (limit: number) => number, index: number): Buffer {
  if (index === 0) return plain
  const longer = Buffer.concat([plain, noise(random(60_000), random)])
  for (let change = 0; change < 12; change++) {
    const block = random(Math.floor(longer.length / BLOCK_BYTES))
    noise(1000, random).copy(longer, block * BLOCK_BYTES + random(7000))
  }
  return longer
}
