/**
 * A random walk on an engine beside a model that knows every state of every file since it was last synced. Reads and
 * orderly remounts must give the newest state; after a crash each block must be one of the states since the last sync.
 */
import { BLOCK } from '../../../agents/target/filesystem/block-map.ts'
import type { Ino } from '../../../agents/target/filesystem/file-system.ts'
import { type Fixture, makeFixture } from './engine-fixture.ts'
import { memorySource, pattern } from './memory-source.ts'

interface ModelFile {
  readonly path: string
  handle: Ino
  /** Contents since the last sync, oldest first; the last is what is there now. */
  states: Buffer[]
}

const MAX_BLOCKS = 24

/** Walks `steps` steps; the same seed walks the same way. @throws Error that names the step where the two part */
export async function walk(seed: number, steps: number, timers: boolean): Promise<void> {
  const base = { 'data/a': pattern(20 * BLOCK + 100, 1), 'data/b': pattern(3 * BLOCK, 2) }
  const fs = await makeFixture(memorySource(base), timers ? { intervals: { changed: 3, all: 7 } } : {})
  try {
    await walkOn(fs, base, seed, steps)
  } finally {
    await fs.remove()
  }
}

async function walkOn(fs: Fixture, base: Record<string, Buffer>, seed: number, steps: number): Promise<void> {
  const random = generator(seed)
  const files: ModelFile[] = []
  for (const [path, content] of Object.entries(base)) {
    files.push({ path, handle: await fs.open(path), states: [content] })
  }
  const made = await fs.create('data/c')
  await fs.engine.fsync(made)
  files.push({ path: 'data/c', handle: made, states: [Buffer.alloc(0)] })
  let pending: Promise<unknown>[] = []

  for (let step = 0; step < steps; step++) {
    const file = files[random(files.length)]
    if (file === undefined) continue
    const kind = random(100)
    if (kind < 40) await write(file)
    else if (kind < 50) await resize(file)
    else if (kind < 57) await changeRange(file)
    else if (kind < 75) await check(file, step)
    else if (kind < 78)
      pending.push(fs.read(file.handle, 4 * BLOCK, random(20 * BLOCK)).catch(() => undefined))
    else if (kind < 92) {
      const sync = fsync(file)
      if (random(2) === 0) await sync
      else pending.push(sync)
    } else if (kind < 96) {
      await Promise.all(pending)
      pending = []
      await new Promise((resolve) => setTimeout(resolve, random(4)))
    } else await reopen(random(2) === 0, step)
  }
  await Promise.all(pending)

  async function write(file: ModelFile): Promise<void> {
    const aligned = random(2) === 0
    const position = aligned ? random(MAX_BLOCKS) * BLOCK : random(MAX_BLOCKS * BLOCK)
    const content = Buffer.alloc(aligned ? (1 + random(3)) * BLOCK : 1 + random(3 * BLOCK), 1 + random(255))
    await fs.write(file.handle, content, position)
    const before = newest(file)
    const state = Buffer.alloc(Math.max(before.length, position + content.length))
    before.copy(state)
    content.copy(state, position)
    file.states.push(state)
  }

  async function resize(file: ModelFile): Promise<void> {
    const size = random(3) === 0 ? random(MAX_BLOCKS) * BLOCK : random(MAX_BLOCKS * BLOCK)
    await fs.engine.setattr(await fs.ino(file.path), { size })
    const state = Buffer.alloc(size)
    newest(file).copy(state)
    file.states.push(state)
  }

  async function changeRange(file: ModelFile): Promise<void> {
    const whole = random(2) === 0
    const position = whole ? random(MAX_BLOCKS) * BLOCK : random(MAX_BLOCKS * BLOCK)
    const length = whole ? (1 + random(6)) * BLOCK : 1 + random(6 * BLOCK)
    const what = (['allocate', 'punch-hole', 'zero-range'] as const)[random(3)] ?? 'allocate'
    const keepSize = what === 'punch-hole' || random(2) === 0
    await fs.engine.fallocate(file.handle, { what, keepSize }, position, length)
    const before = newest(file)
    const state = Buffer.alloc(keepSize ? before.length : Math.max(before.length, position + length))
    before.copy(state)
    if (what !== 'allocate') state.fill(0, position, Math.min(position + length, state.length))
    file.states.push(state)
  }

  async function check(file: ModelFile, step: number): Promise<void> {
    const position = random((MAX_BLOCKS + 1) * BLOCK)
    const length = random(4 * BLOCK)
    const got = await fs.read(file.handle, length, position)
    if (!got.equals(newest(file).subarray(position, position + length))) {
      throw new Error(`step ${step}: ${length} bytes of ${file.path} at ${position} are wrong`)
    }
  }

  async function fsync(file: ModelFile): Promise<void> {
    const synced = newest(file)
    await fs.engine.fsync(file.handle)
    const index = file.states.indexOf(synced)
    if (index > 0) file.states.splice(0, index)
  }

  async function reopen(crash: boolean, step: number): Promise<void> {
    const midway = crash && random(2) === 0
    if (!midway) await Promise.all(pending)
    if (crash) await fs.crash(pending)
    else await fs.remount()
    await Promise.allSettled(pending)
    pending = []
    for (const file of files) {
      file.handle = await fs.open(file.path)
      const got = await fs.readFile(file.path)
      const states = crash ? file.states : [newest(file)]
      const wrong = firstWrongBlock(got, states)
      if (wrong !== undefined)
        throw new Error(`step ${step}, crash ${crash}: ${file.path} is wrong in ${wrong}`)
      file.states = [got]
    }
  }
}

function newest(file: ModelFile): Buffer {
  return file.states.at(-1) ?? Buffer.alloc(0)
}

/** What of a file is of none of the states; undefined when all is well. */
function firstWrongBlock(got: Buffer, states: readonly Buffer[]): string | undefined {
  if (!states.some(({ length }) => length === got.length)) return `its size ${got.length}`
  for (let block = 0; block * BLOCK < got.length; block++) {
    const is = blockOf(got, block, got.length)
    if (!states.some((state) => blockOf(state, block, got.length).equals(is))) return `block ${block}`
  }
  return undefined
}

/** One block of a state, as it shows when the file ends at `size`. */
function blockOf(state: Buffer, block: number, size: number): Buffer {
  const bytes = Buffer.alloc(BLOCK)
  state.subarray(block * BLOCK, Math.min((block + 1) * BLOCK, state.length, size)).copy(bytes)
  return bytes
}

/** A linear congruential generator; gives whole numbers below its argument. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor((state / 2147483648) * below)
  }
}
