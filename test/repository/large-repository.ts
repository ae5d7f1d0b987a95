/** A pgBackRest repository with as many files as a test wants, all of them the same 8 KiB of one bundle. */
import { createHash } from 'node:crypto'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export const LABEL = '20260102-030405F'
const FILES_PER_DATABASE = 1000
const EMPTY_BLOCK = Buffer.alloc(8192)

type Sections = Readonly<Record<string, readonly (readonly [key: string, value: unknown])[]>>

/** A file as pgBackRest writes its own: INI sections of JSON values with a SHA-1 at the end. */
export function infoFile(sections: Sections): string {
  let text = ''
  const hashed: string[] = []
  for (const [section, lines] of Object.entries(sections)) {
    const values = lines.map(([key, value]) => [key, JSON.stringify(value)] as const)
    text += `[${section}]\n${values.map(([key, value]) => `${key}=${value}\n`).join('')}\n`
    hashed.push(`"${section}":{${values.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`)
  }
  const checksum = createHash('sha1')
    .update(`{${hashed.join(',')}}`)
    .digest('hex')
  return `${text}[backrest]\nbackrest-checksum="${checksum}"\n`
}

const FORMAT = [
  ['backrest-format', 5],
  ['backrest-version', '2.53'],
] as const

/**
 * Makes the repository below `root`: stanza `demo` with one full backup.
 * @param timestamp that of its files
 * @param named the databases that the manifest names
 */
export async function makeLargeRepository(
  root: string,
  files: number,
  timestamp = 1_700_000_000,
  named: readonly string[] = [],
): Promise<void> {
  const backup = join(root, 'backup', 'demo', LABEL)
  const archive = join(root, 'archive', 'demo')
  await mkdir(join(backup, 'bundle'), { recursive: true })
  await mkdir(join(archive, '15-1'), { recursive: true })
  const history = { 'db-catalog-version': 202209061, 'db-control-version': 1300, 'db-version': '15' }
  await writeFile(
    join(root, 'backup', 'demo', 'backup.info'),
    infoFile({
      backrest: FORMAT,
      'backup:current': [
        [
          LABEL,
          {
            'backrest-format': 5,
            'backup-archive-start': '000000010000000000000003',
            'backup-archive-stop': '000000010000000000000003',
            'backup-timestamp-start': timestamp,
            'backup-timestamp-stop': timestamp + 9,
            'backup-type': 'full',
            'db-id': 1,
          },
        ],
      ],
      'db:history': [['1', { ...history, 'db-system-id': 77 }]],
    }),
  )
  await writeFile(
    join(archive, 'archive.info'),
    infoFile({ backrest: FORMAT, 'db:history': [['1', { 'db-id': 77, 'db-version': '15' }]] }),
  )
  await writeFile(join(backup, 'bundle', '1'), '')
  await truncate(join(backup, 'bundle', '1'), files * EMPTY_BLOCK.length)
  await writeFile(join(backup, 'backup.manifest'), manifest(files, timestamp, named))
}

function manifest(files: number, timestamp: number, named: readonly string[]): string {
  const checksum = createHash('sha1').update(EMPTY_BLOCK).digest('hex')
  const databases = Math.ceil(files / FILES_PER_DATABASE)
  const database = (n: number) => `pg_data/base/${16_384 + n}`
  const lines = Array.from({ length: files }, (_, n): [string, unknown] => [
    `${database(Math.floor(n / FILES_PER_DATABASE))}/${100_000 + n}`,
    {
      bni: 1,
      ...(n > 0 && { bno: n * EMPTY_BLOCK.length }),
      checksum,
      'checksum-page': true,
      size: EMPTY_BLOCK.length,
      timestamp: timestamp + (n % 1000),
    },
  ])
  return infoFile({
    backrest: FORMAT,
    backup: [
      ['backup-label', LABEL],
      ['backup-type', 'full'],
    ],
    'backup:db': [['db-version', '15']],
    'backup:option': [['option-compress-type', 'none']],
    ...(named.length > 0 && { db: named.map((name, n) => [name, { 'db-id': 16_384 + n }] as const) }),
    'target:file': lines,
    'target:file:default': [
      ['group', 'postgres'],
      ['mode', '0600'],
      ['user', 'postgres'],
    ],
    'target:path': [
      ['pg_data', {}],
      ['pg_data/base', {}],
      ...Array.from({ length: databases }, (_, n): [string, unknown] => [database(n), {}]),
      ['pg_data/pg_wal', {}],
      ['pg_data/global', {}],
    ],
    'target:path:default': [
      ['group', 'postgres'],
      ['mode', '0700'],
      ['user', 'postgres'],
    ],
  })
}
