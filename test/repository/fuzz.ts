/**
 * Manifests and block maps that no tool wrote: what is read of them is an error of the kind that names the damage,
 * or a tree; never anything else, and never more memory than the input allows. `npm test` runs some, the soak many.
 */
import fc from 'fast-check'
import { type BlockMap, readBlockMap } from '../../agents/mount/formats/pgbackrest/block-map.ts'
import { MalformedInfo } from '../../agents/mount/formats/pgbackrest/ini.ts'
import { parseManifest } from '../../agents/mount/formats/pgbackrest/manifest.ts'
import { storedFiles } from '../../agents/mount/formats/pgbackrest/stored-files.ts'
import { HowdahError } from '../../messages/errors.ts'
import { BLOCK_CHECKSUM_BYTES, type PlacedBlock, writeBlocks, writeMap } from './block-writer.ts'
import { infoFile } from './large-repository.ts'

const BLOCK_BYTES = 8192
/** Of a super block, as the reader takes it. */
const MAX_SUPER_BLOCK_BYTES = 64 * 1024 * 1024

/** Contents by a number for each block, and the length of the last one. */
const version = fc.record({
  blocks: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 40 }),
  last: fc.integer({ min: 1, max: BLOCK_BYTES }),
  superBlockSize: fc.constantFrom(BLOCK_BYTES, 3 * BLOCK_BYTES, 16 * BLOCK_BYTES),
})
const history = fc.array(version, { minLength: 1, maxLength: 6 })

interface Written {
  readonly map: Buffer
  readonly placed: readonly PlacedBlock[]
  readonly size: number
}

function write(versions: readonly { blocks: number[]; last: number; superBlockSize: number }[]): Written {
  let placed: readonly PlacedBlock[] = []
  let size = 0
  for (const [reference, { blocks, last, superBlockSize }] of versions.entries()) {
    const plain = Buffer.concat(
      blocks.map((content, index) => Buffer.alloc(index === blocks.length - 1 ? last : BLOCK_BYTES, content)),
    )
    size = plain.length
    placed = writeBlocks(plain, placed, {
      ...{
        blockSize: BLOCK_BYTES,
        superBlockSize,
        reference,
        bundle: reference % 2,
        offset: reference * 100,
      },
      encode: (superBlock) => superBlock.subarray(0, 1 + Math.ceil(superBlock.length / 3)),
    }).placed
  }
  return { map: writeMap(placed, BLOCK_BYTES), placed, size }
}

const shape = (size: number) => ({ size, blockSize: BLOCK_BYTES, checksumSize: BLOCK_CHECKSUM_BYTES })

function assert(condition: boolean, what: string): void {
  if (!condition) throw new Error(what)
}

/** Everything that a map says is within bounds. */
function checkBounds(map: BlockMap): void {
  for (let block = 0; block < map.blocks; block++) {
    const run = map.runOf(block)
    const { plainBytes, storedBytes, offset } = map.superBlock(run.superBlock)
    assert(run.block <= block && block < run.block + run.count, 'a block is in its run')
    assert(run.start + (block - run.block) * BLOCK_BYTES < plainBytes, 'a block is in its super block')
    assert(
      plainBytes <= MAX_SUPER_BLOCK_BYTES && storedBytes > 0,
      'a super block is no larger than it may be',
    )
    assert(Number.isSafeInteger(offset + storedBytes), 'a super block is where a file can be')
    assert(map.checksum(block).length === BLOCK_CHECKSUM_BYTES, 'a block has a checksum')
  }
}

/** Runs `work`; what it throws must be an error that names the damage. */
async function orDamage(work: () => unknown): Promise<void> {
  try {
    await work()
  } catch (error) {
    const isNamed = error instanceof MalformedInfo || error instanceof HowdahError
    if (!isNamed) throw error
  }
}

const mapOfOurOwn = fc.property(history, (versions) => {
  const { map, placed, size } = write(versions)
  const read = readBlockMap(map, shape(size))
  checkBounds(read)
  for (const [block, expected] of placed.entries()) {
    const run = read.runOf(block)
    const { reference, bundle, offset, storedBytes, plainBytes } = read.superBlock(run.superBlock)
    assert(
      run.start / BLOCK_BYTES + block - run.block === expected.inside,
      `block ${block} is where it was put`,
    )
    assert(read.checksum(block).equals(expected.checksum), `block ${block} has its checksum`)
    assert(
      reference === expected.reference &&
        bundle === expected.bundle &&
        offset === expected.offset &&
        storedBytes === expected.storedBytes &&
        plainBytes === expected.plainBytes,
      `block ${block} is in its super block`,
    )
  }
})

const changedMap = fc.asyncProperty(
  history,
  fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 }),
  fc.nat(),
  async (versions, changes, cut) => {
    const { map, size } = write(versions)
    for (const [at, byte] of changes) map[at % map.length] = byte
    const bytes = cut % 3 === 0 ? map.subarray(0, cut % map.length) : map
    await orDamage(() => checkBounds(readBlockMap(bytes, shape(size))))
  },
)

const anyMap = fc.asyncProperty(
  fc.uint8Array({ maxLength: 400 }),
  fc.oneof(fc.integer({ min: 1, max: 40 * BLOCK_BYTES }), fc.maxSafeNat()),
  (bytes, size) => orDamage(() => checkBounds(readBlockMap(Buffer.from(bytes), shape(size)))),
)

const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.maxSafeNat(),
  fc.constantFrom('0600', '9999', '20260102-030405F', '../..', true, -1, 1.5, null),
)
const path = fc.oneof(
  fc.constantFrom(
    'pg_data/base/1/1',
    'pg_data/PG_VERSION',
    'pg_data/../x',
    'pg_tblspc/1/PG_15/a',
    '/etc/passwd',
  ),
  fc.string({ maxLength: 30 }).filter((text) => !/[\n\r]/.test(text)),
)
const names = [
  'size',
  'timestamp',
  'mode',
  'reference',
  'bni',
  'bno',
  'bi',
  'bim',
  'bic',
  'repo-size',
  'checksum',
]
const line = fc.dictionary(fc.constantFrom(...names), value)
const oddManifest = fc.asyncProperty(
  fc.array(fc.tuple(path, fc.oneof(line, line, value)), { maxLength: 8 }),
  fc.array(fc.tuple(path, value), { maxLength: 3 }),
  fc.array(fc.tuple(path, value), { maxLength: 3 }),
  fc.dictionary(fc.constantFrom('backup-label', 'backup-reference', 'backup-bundle-raw'), value),
  async (files, links, paths, backup) => {
    const good = { size: 8192, timestamp: 1_700_000_000 }
    const bytes = Buffer.from(
      infoFile({
        backup: Object.entries({ 'backup-label': 'a', ...backup }),
        'target:file': files.map(([name, fields]) => [
          name,
          typeof fields === 'object' && fields !== null && !Array.isArray(fields)
            ? { ...good, ...fields }
            : fields,
        ]),
        'target:link': links,
        'target:path': [['pg_data', {}], ['pg_data/base', {}], ['pg_data/base/1', {}], ...paths],
      }),
    )
    await orDamage(() => openEvery(bytes))
  },
)

const changedManifest = fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), (bytes) =>
  orDamage(() => openEvery(Buffer.concat([Buffer.from('[backup]\n'), bytes]))),
)

/** Parses a manifest, and asks for where each of its files is. */
async function openEvery(bytes: Buffer): Promise<void> {
  const manifest = await parseManifest(bytes, 'the manifest')
  const place = storedFiles({
    root: '/repo',
    stanzaDirectory: '/repo/backup/demo',
    manifest: { ...manifest, compressType: 'gz' },
    labels: ['20260102-030405F'],
    blockFiles: { open: () => ({ read: async () => Buffer.alloc(0) }) },
    verifyChecksums: true,
  })
  for (const entry of [...manifest.tree.entries()].flat()) {
    assert(/^(data|tblspc\/\d+)(\/|$)/.test(entry.path), `${entry.path} is in the backup`)
    if (entry.file === undefined) continue
    await orDamage(() => {
      const found = manifest.tree.source(entry.file ?? -1)
      if (found !== undefined) place(found.source, found.entry)
    })
  }
}

export const PGBACKREST_FUZZ: Readonly<Record<string, fc.IProperty<never> | fc.IRawProperty<unknown>>> = {
  'a block map as pgBackRest writes it is read as it was written': mapOfOurOwn,
  'a block map with changes is read within its bounds, or refused': changedMap,
  'any bytes as a block map are read within their bounds, or refused': anyMap,
  'a manifest with odd values is read, or refused': oddManifest,
  'any bytes as a manifest are refused': changedManifest,
}
