/**
 * Power cuts under the fetched store: its data file loses sectors that were not synced, its index keeps everything that
 * possible, which is the worst case; whatever the index then claims must be the backup's bytes.
 */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { BLOCK } from '../../../agents/target/filesystem/contents/block-map.ts'
import { CHUNK_BLOCKS } from '../../../agents/target/filesystem/fetched/fetched-chunks.ts'
import {
  type FetchedIndex,
  openFetchedIndex,
} from '../../../agents/target/filesystem/fetched/fetched-index.ts'
import { FetchedStore } from '../../../agents/target/filesystem/fetched/fetched-store.ts'
import { pattern } from '../../filesystem/support/memory-source.ts'
import { SECTOR } from './disk.ts'
import { createRandom, type Random } from './random.ts'

export interface FetchedCutOptions {
  readonly cuts: number
  readonly seed: number
  readonly until?: number
  readonly onProgress?: (cuts: number) => void
  /** Reports data as synced before it is, to see that this is detected. */
  readonly spoil?: boolean
}

const KEY = 'f'.repeat(40)
const FILES = 3
const BLOCKS = 40
/** Cuts of one store before another is begun. */
const CUTS_EACH = 6
/** Little, because each opening reserves what is left of it, and the data file is read as a whole. */
const BUDGET = 1_500_000
const logger = pino({ level: 'silent' })

/** Runs until something is wrong or enough cuts were made. */
export async function runFetchedCuts(
  options: FetchedCutOptions,
): Promise<{ readonly cuts: number; readonly wrong?: string }> {
  const random = createRandom(options.seed)
  const { until = Number.POSITIVE_INFINITY } = options
  let cuts = 0
  while (cuts < options.cuts && Date.now() < until) {
    const directory = mkdtempSync(join(tmpdir(), 'howdah-fetched-'))
    try {
      for (let round = 0; round < CUTS_EACH; round++) {
        const wrong = await cutOnce(directory, random, options.spoil === true)
        cuts++
        if (wrong !== undefined) return { cuts, wrong }
      }
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
    options.onProgress?.(cuts)
  }
  return { cuts }
}

const content = (file: number): Buffer => pattern(BLOCKS * BLOCK, file + 1)

/** Continues with a store, cuts the power, and replaces the store by what is left; returns what is wrong. */
async function cutOnce(directory: string, random: Random, spoil: boolean): Promise<string | undefined> {
  const root = join(directory, 'fetched')
  const index = open(root)
  const dataPath = join(root, KEY, 'blocks.data')
  /** Of the data file: what is there whatever happens. */
  let durable = readFileSync(dataPath)
  const works: (() => void)[] = []
  const store = new FetchedStore({
    state: index.state,
    logger,
    onRoom: () => undefined,
    services: {
      write: (fd, data, position) =>
        new Promise((resolve) => {
          works.push(() => {
            writeSync(fd, data, 0, data.length, position)
            resolve()
          })
        }),
      sync: () =>
        new Promise((resolve) => {
          const synced = readFileSync(dataPath)
          works.push(() => {
            durable = synced
            resolve()
          })
          if (spoil) resolve()
        }),
      reserveFetched: async (unused) => index.reserve(unused),
      saveFetched: async (chunks) => index.save(chunks),
      dropFetched: async (file, slots) => index.drop(file, slots),
    },
  })
  for (let count = 20 + random.below(30); count > 0; count--) {
    const file = random.below(FILES)
    const first = random.below(BLOCKS)
    const data = content(file).subarray(first * BLOCK, (first + 1 + random.below(6)) * BLOCK)
    if (random.oneIn(3)) store.flush().catch(() => undefined)
    else if (random.oneIn(2)) works.shift()?.()
    else if (random.oneIn(4)) store.keepMuch(file, first, data).catch(() => undefined)
    else store.keep(file, first, data)
    await turn()
  }
  const left = join(directory, 'left')
  mkdirSync(left)
  const indexFiles = readdirSync(join(root, KEY)).filter((name) => name.startsWith('index.'))
  for (const name of indexFiles) copyFileSync(join(root, KEY, name), join(left, name))
  const image = survivors(durable, readFileSync(dataPath), random)
  store.close()
  // What still waits belongs to a process that is gone.
  index.close()
  for (const name of readdirSync(join(root, KEY))) rmSync(join(root, KEY, name))
  for (const name of indexFiles) renameSync(join(left, name), join(root, KEY, name))
  rmSync(left, { recursive: true })
  writeFileSync(dataPath, image)
  return check(root)
}

/** Every sector of the data file is as it was synced or as it is now. */
function survivors(durable: Buffer, now: Buffer, random: Random): Buffer {
  const unit = random.oneIn(2) ? SECTOR : BLOCK
  const image = Buffer.alloc(now.length)
  durable.copy(image)
  for (let at = 0; at < now.length; at += unit) if (random.oneIn(2)) now.copy(image, at, at, at + unit)
  return image
}

/** What the index claims, without the checksums that would find it out. */
function check(root: string): string | undefined {
  const index = open(root)
  try {
    const block = Buffer.alloc(BLOCK)
    for (const { file, chunk, slots } of index.state.chunks) {
      const right = content(file)
      for (const [at, slot] of slots.entries()) {
        if (slot === 0) continue
        const place = chunk * CHUNK_BLOCKS + at
        readSync(index.state.fd, block, 0, BLOCK, slot * BLOCK)
        if (!block.equals(right.subarray(place * BLOCK, (place + 1) * BLOCK))) {
          return `block ${place} of file ${file} is claimed and is not the backup's`
        }
      }
    }
    return undefined
  } finally {
    index.close()
  }
}

function open(root: string): FetchedIndex {
  const index = openFetchedIndex({ root, key: KEY, budgetBytes: BUDGET, reserveBytes: 0, logger })
  if (index === undefined) throw new Error('the fetched store cannot be opened')
  return index
}
