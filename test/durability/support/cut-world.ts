/**
 * An engine over a backup in memory, whose local files are on a disk that can lose power and whose services complete
 * on request. Images of the disk are taken during the steps, and checked against the model. Fetched blocks are kept in a
 * store that loses nothing: power cuts of that are fetched-cut.ts's subject.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { type Batch, openJournal } from '../../../agents/target/filesystem/durability/journal.ts'
import { createEngine, type Engine } from '../../../agents/target/filesystem/engine.ts'
import {
  type FetchedIndex,
  openFetchedIndex,
} from '../../../agents/target/filesystem/fetched/fetched-index.ts'
import { FileSystemError, type Ino } from '../../../agents/target/filesystem/file-system.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { type BaseTree, buildBaseTree } from '../../../agents/target/filesystem/tree/base-tree.ts'
import { publishedTree } from '../../../agents/target/filesystem/tree/published-tree.ts'
import { memorySource, pattern } from '../../filesystem/support/memory-source.ts'
import { actOn } from './cut-actions.ts'
import { look, place, type Seen } from './cut-look.ts'
import { type Certain, CutModel } from './cut-model.ts'
import { CUT_FILES } from './cut-steps.ts'
import { Disk, type Survivors } from './disk.ts'
import type { Operation } from './operations.ts'
import type { Random } from './random.ts'

/** What a power cut leaves, and what is allowed on it. */
interface Cut {
  readonly disk: Disk
  readonly batches: readonly Batch[]
  readonly certain: Certain
}

/** A pending service call: completes it. */
type Work = () => void

export interface CutOptions {
  readonly random: Random
  /** One of this many moments is checked. */
  readonly oneIn: number
  /** Images of each moment that is checked. */
  readonly images: number
  /** Gives the engine faulty services, to verify that the test detects them. */
  readonly spoil?: ((services: Services) => Services) | undefined
}

export interface CutWorld {
  /** Images checked so far. */
  readonly cuts: number
  /** Does a step and checks the images of its moments; returns what is wrong. */
  step(operation: Operation, index: number): Promise<string | undefined>
  end(): void
}

/** Enough for everything. */
const STORE_BYTES = 64 * 1024 * 1024

const contents = Object.fromEntries(
  Object.entries(CUT_FILES).map(([path, size], index) => [path, pattern(size, index + 1)]),
)
const fileOrder = Object.keys(contents).sort()

export async function createCutWorld({ random, oneIn, images, spoil }: CutOptions): Promise<CutWorld> {
  const logger = pino({ level: 'silent' })
  // Its free space is queried; of the engine's files only the fetched store is in it.
  const cachePath = mkdtempSync(join(tmpdir(), 'howdah-cut-'))
  const tree: BaseTree = await buildBaseTree(
    publishedTree(memorySource(contents).tree(), {
      mountPoint: '/m',
      walDirectory: '/w',
      extraFiles: [],
      now: 2000,
    }),
  )
  const openStore = (): FetchedIndex | undefined =>
    openFetchedIndex({
      root: join(cachePath, 'fetched'),
      key: 'f'.repeat(40),
      budgetBytes: STORE_BYTES,
      reserveBytes: 0,
      logger,
    })
  let store = openStore()
  let disk = new Disk()
  let batches: Batch[] = []
  let works: Work[] = []
  /** Commits in progress, oldest first. */
  let outgoing: Batch[] = []
  let automatic = false
  let model = new CutModel()
  let held: Ino[] = []
  let found: Cut[] = []
  let cuts = 0

  function service(on: Disk, commit: (batch: Batch) => Promise<void>, wait: (work: Work) => void): Services {
    const sync = (fd: number) =>
      new Promise<void>((resolve) => {
        const end = on.beginSync(fd)
        wait(() => {
          end()
          resolve()
        })
      })
    return {
      read: async (file, offset, length) =>
        Buffer.from((contents[fileOrder[file] ?? ''] ?? Buffer.alloc(0)).subarray(offset, offset + length)),
      readMany: () => Promise.reject(new Error('nothing asks for this')),
      walSize: async () => undefined,
      walRead: async () => Buffer.alloc(0),
      write: () => Promise.reject(new Error('nothing asks for this')),
      sync,
      syncDirectory: sync,
      close: async (fd) => on.closeSync(fd),
      commit,
      reserveFetched: async () => undefined,
      saveFetched: async () => [],
      dropFetched: async () => undefined,
    }
  }

  function services(): Services {
    const wait = (work: Work) => {
      if (automatic) work()
      else works.push(work)
    }
    const on = disk
    const commit = (batch: Batch) =>
      new Promise<void>((resolve) => {
        outgoing.push(structuredClone(batch))
        disk.onEvent()
        wait(() => {
          const done = outgoing.shift()
          if (done !== undefined) batches.push(done)
          disk.onEvent()
          resolve()
        })
      })
    const plain = service(on, commit, wait)
    const made: Services = {
      ...plain,
      async read(file, offset, length) {
        // Completes later, so that other steps are done meanwhile.
        for (let turns = random.below(4); turns > 0; turns--) await turn()
        return plain.read(file, offset, length)
      },
      reserveFetched: async (unused) => store?.reserve(unused),
      saveFetched: async (chunks) => store?.save(chunks) ?? [],
      dropFetched: async (file, slots) => store?.drop(file, slots),
    }
    const spoiled = spoil?.(made) ?? made
    return { ...spoiled, sync: async (fd) => (on.owns(fd) ? spoiled.sync(fd) : undefined) }
  }

  function open(on: Disk, durable: readonly Batch[], services: Services, fetched?: FetchedIndex): Engine {
    const journal = openJournal(':memory:')
    try {
      for (const batch of durable) journal.commit(batch)
      return createEngine({
        tree,
        cachePath,
        journalState: journal.load(),
        services,
        fetched: fetched?.state,
        owner: { uid: 1, gid: 2 },
        limits: { reserveBytes: 0 },
        logger,
        io: on,
      })
    } finally {
      journal.close()
    }
  }

  let engine = open(disk, batches, services(), store)
  watch()
  rebase(await lookAside())

  /** The durable state, read by another engine, so that this one still has to fetch blocks. */
  async function lookAside(): Promise<Seen> {
    const inert = service(
      disk,
      async () => undefined,
      (end) => end(),
    )
    const other = open(disk, batches, inert)
    try {
      return await look(other)
    } finally {
      other.abandon()
    }
  }

  /** Takes images at some moments. */
  function watch(): void {
    disk.onEvent = () => {
      if (!random.oneIn(oneIn)) return
      for (let count = 0; count < images; count++) found.push(cut(survivors(count)))
    }
  }

  function survivors(count: number): Survivors {
    if (count === 0) return 'none'
    if (count === 1) return 'all'
    return { random, unit: random.oneIn(2) ? 512 : 4096 }
  }

  function cut(left: Survivors): Cut {
    // A commit in progress is durable as a whole or not at all.
    const more = outgoing.slice(0, random.below(outgoing.length + 1))
    return { disk: disk.image(left), batches: [...batches, ...more], certain: model.certain }
  }

  /** Checks the images that were taken; returns what is wrong with the first bad one. */
  async function judgeAll(): Promise<string | undefined> {
    const moments = found
    found = []
    for (const moment of moments) {
      const wrong = await judge(moment)
      if (wrong !== undefined) return wrong
    }
    return undefined
  }

  /** Opens an image; returns its contents and the engine over it, or what is wrong. */
  async function judge(one: Cut): Promise<string | undefined> {
    cuts++
    const commits = [...one.batches]
    const own = service(
      one.disk,
      async (batch) => void commits.push(structuredClone(batch)),
      (end) => end(),
    )
    let opened: Engine
    try {
      opened = open(one.disk, one.batches, own)
    } catch (error) {
      return `the write cache cannot be opened: ${error instanceof Error ? error.stack : String(error)}`
    }
    try {
      const seen = await look(opened)
      const wrong = model.judge(one.certain, seen.lines, seen.files)
      if (wrong !== undefined || !random.oneIn(8)) return wrong
      return await emptied(opened, one.disk, seen)
    } catch (error) {
      return `the write cache cannot be read: ${error instanceof Error ? error.stack : String(error)}`
    } finally {
      opened.abandon()
    }
  }

  /** Continues from an image: files can be written, and after all are removed no space is used and nothing is left. */
  async function emptied(opened: Engine, on: Disk, { files, paths }: Seen): Promise<string | undefined> {
    for (const { path, ino } of files) {
      const at = random.below(20_000)
      const data = Buffer.alloc(1 + random.below(9000), 7)
      await opened.write(ino, data, data.length, at)
      const back = Buffer.alloc(data.length)
      if ((await opened.read(ino, back, back.length, at)) !== back.length || !back.equals(data)) {
        return `${path} cannot be written after the cut`
      }
    }
    for (const path of paths) {
      const [parent, name] = await place(opened, path)
      opened.unlink(parent, name)
    }
    await opened.flush()
    const { changedBytes } = opened.statistics()
    if (changedBytes !== 0) return `${changedBytes} bytes are taken when every file is gone`
    const left = on.readdirSync()
    return left.length > 0 ? `local files are left when every file is gone: ${left}` : undefined
  }

  /** The model starts again from the state found; nothing else is certain any more. */
  function rebase({ lines, files }: Seen): void {
    model = new CutModel()
    model.noteNames(lines)
    for (const { ino, content } of files) model.noteContent(ino, content)
  }

  async function reopen(from: Cut): Promise<void> {
    engine.abandon()
    store?.close()
    disk = from.disk
    batches = [...from.batches]
    works = []
    outgoing = []
    held = []
    store = openStore()
    engine = open(disk, batches, services(), store)
    watch()
    rebase(await lookAside())
  }

  async function settle(): Promise<void> {
    while (works.length > 0) {
      works.shift()?.()
      await turn()
    }
  }

  /** Records what is durable after a successful sync. */
  function whenDone(promise: Promise<void>, note: () => void): void {
    const on = model
    promise.then(
      () => {
        if (model === on) note()
      },
      (error: unknown) => {
        if (model === on) failure = `a sync failed: ${String(error)}`
      },
    )
  }
  let failure: string | undefined

  async function act(operation: Operation): Promise<void> {
    switch (operation.op) {
      case 'disk': {
        // Syncs end in any order, commits one after another.
        const [work] = works.splice(Number(operation.which) % Math.max(1, works.length), 1)
        work?.()
        return
      }
      case 'disk-all':
        return settle()
      case 'crash': {
        failure ??= await judgeAll()
        const left = cut(survivors(random.below(8)))
        const wrong = await judge({ ...left, disk: left.disk.image('all') })
        failure ??= wrong
        return wrong === undefined ? reopen(left) : undefined
      }
      case 'remount': {
        automatic = true
        await settle()
        await engine.close()
        await settle()
        automatic = false
        failure ??= await judgeAll()
        const seen = await lookAside()
        const now = { ...model.certain, names: model.step, contents: everything(seen, model.step) }
        failure ??= model.judge(now, seen.lines, seen.files)
        return reopen({ disk, batches, certain: now })
      }
      default:
        return actOn({ engine, model, held, whenDone }, operation)
    }
  }

  return {
    get cuts() {
      return cuts
    },
    async step(operation, index) {
      model.step = index + 1
      failure = undefined
      try {
        await act(operation)
      } catch (error) {
        if (!(error instanceof FileSystemError) || error.errno === 'EIO')
          return `${operation.op}: ${String(error)}`
      }
      await turn()
      model.noteNames((await look(engine, false)).lines)
      return (await judgeAll()) ?? failure
    },
    end() {
      engine.abandon()
      store?.close()
      rmSync(cachePath, { recursive: true, force: true })
    },
  }
}

function everything({ files }: Seen, step: number): Map<Ino, number> {
  return new Map(files.map(({ ino }) => [ino, step]))
}
