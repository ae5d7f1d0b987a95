/** An engine over a memory source with a write cache in a directory of its own, and short ways to use it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { pino } from 'pino'
import { type Journal, openJournal } from '../../../agents/target/filesystem/durability/journal.ts'
import { createEngine, type Engine, type EngineOptions } from '../../../agents/target/filesystem/engine.ts'
import {
  type FetchedIndex,
  openFetchedIndex,
} from '../../../agents/target/filesystem/fetched/fetched-index.ts'
import { type Attributes, FileSystemError, type Ino } from '../../../agents/target/filesystem/file-system.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { type BaseTree, buildBaseTree, ROOT } from '../../../agents/target/filesystem/tree/base-tree.ts'
import { publishedTree } from '../../../agents/target/filesystem/tree/published-tree.ts'
import { localServices } from '../../../agents/target/mount-process/services/local-services.ts'
import type { MemorySource } from './memory-source.ts'

export const OWNER = { uid: 1234, gid: 4321 }
/** Who makes what the fixture makes. */
export const CALLER = { uid: 77, gid: 88 }

export interface Fixture {
  readonly engine: Engine
  readonly cachePath: string
  /** The inode of a path. */
  ino(path: string): Promise<Ino>
  stat(path: string): Promise<Attributes>
  exists(path: string): Promise<boolean>
  /** The inode of a path with a reference, as an open file holds one. */
  open(path: string): Promise<Ino>
  /** As `open`, of a file that is made. */
  create(path: string, content?: Buffer): Promise<Ino>
  read(ino: Ino, length: number, position: number): Promise<Buffer>
  readFile(path: string): Promise<Buffer>
  write(ino: Ino, content: Buffer, position: number): Promise<void>
  /** Directory inode and last name, as most operations take them. */
  at(path: string): Promise<[Ino, string]>
  names(path: string): Promise<string[]>
  /** Drops the engine without any farewell and opens the write cache again. */
  crash(): Promise<void>
  /** Closes in order and opens again. */
  remount(): Promise<void>
  remove(): Promise<void>
}

export interface FixtureOptions extends Partial<EngineOptions> {
  /** Milliseconds between calls of `syncChanged`, and of `flush`; nothing becomes durable by itself without. */
  readonly intervals?: { readonly changed: number; readonly all: number }
  /** Of reads of the source, in milliseconds. */
  readonly deadlineMs?: number
  /** Directory of the fetched stores; the write cache's `fetched` by default. */
  readonly fetchedRoot?: string
  /** Bytes that may be kept of what is fetched; default: all. */
  readonly fetchedBytes?: number
  /** Between the engine and its services. */
  readonly intercept?: (services: Services) => Services
}

export async function makeFixture(source: MemorySource, options: FixtureOptions = {}): Promise<Fixture> {
  const cachePath = options.cachePath ?? mkdtempSync('/var/tmp/howdah-engine-')
  const tree: BaseTree = await buildBaseTree(
    publishedTree(source.tree(), {
      mountPoint: '/mount/point',
      walDirectory: `${cachePath}/pg_wal`,
      extraFiles: [{ path: 'data/recovery.signal', content: '' }],
      now: 2000,
    }),
  )
  let journal: Journal
  let fetched: FetchedIndex | undefined
  let timers: NodeJS.Timeout[] = []
  const make = () => {
    journal = openJournal(`${cachePath}/journal.sqlite`)
    fetched =
      options.fetchedBytes === 0
        ? undefined
        : openFetchedIndex({
            root: options.fetchedRoot ?? `${cachePath}/fetched`,
            key: 'f'.repeat(40),
            budgetBytes: options.fetchedBytes ?? 1024 ** 4,
            reserveBytes: 0,
            logger: pino({ level: 'silent' }),
          })
    const services = localServices({
      ...{ source, journal, cachePath, fetched },
      readDeadlineMs: options.deadlineMs ?? 5000,
    })
    const made = createEngine({
      tree,
      cachePath,
      journalState: journal.load(),
      fetched: fetched?.state,
      services: options.intercept?.(services) ?? services,
      owner: OWNER,
      limits: { reserveBytes: 0 },
      logger: pino({ level: 'silent' }),
      ...options,
    })
    if (options.intervals !== undefined) {
      const again = (work: () => Promise<void>, ms: number) =>
        setInterval(() => void work().catch(() => undefined), ms)
      timers = [
        again(() => made.syncChanged(), options.intervals.changed),
        again(() => made.flush(), options.intervals.all),
        again(() => made.flushFetched(), options.intervals.all),
      ]
    }
    return made
  }
  const stopTimers = () => {
    for (const timer of timers) clearInterval(timer)
    timers = []
  }
  const abandon = () => {
    stopTimers()
    engine.abandon()
    journal.close()
    fetched?.close()
  }
  let engine = make()
  let open = true

  const ino = async (path: string) => {
    let at = ROOT
    for (const part of path.split('/').filter((name) => name !== '')) {
      at = (await engine.lookup(at, part)).ino
      engine.forget(at, 1)
    }
    return at
  }
  const at = async (path: string): Promise<[Ino, string]> => {
    const slash = path.lastIndexOf('/')
    return [await ino(path.slice(0, slash)), path.slice(slash + 1)]
  }
  const read = async (file: Ino, length: number, position: number) => {
    const buffer = Buffer.alloc(length, 0xee)
    const count = await engine.read(file, buffer, length, position)
    return buffer.subarray(0, count)
  }

  const stat = async (path: string) => engine.getattr(await ino(path))

  return {
    get engine() {
      return engine
    },
    cachePath,
    ino,
    at,
    read,
    stat,
    exists: (path) =>
      ino(path).then(
        () => true,
        () => false,
      ),
    async open(path) {
      const file = await ino(path)
      engine.remember(file)
      return file
    },
    async create(path, content) {
      const [directory, name] = await at(path)
      const file = engine.mknod(directory, name, 0o100600, 0, CALLER).ino
      if (content !== undefined) await engine.write(file, content, content.length, 0)
      return file
    },
    readFile: async (path) => read(await ino(path), (await stat(path)).size + 1, 0),
    async write(file, content, position) {
      await engine.write(file, content, content.length, position)
    },
    names: async (path) => (await engine.readdir(await ino(path))).map(({ name }) => name).sort(),
    async crash() {
      abandon()
      engine = make()
    },
    async remount() {
      stopTimers()
      await engine.close()
      journal.close()
      fetched?.close()
      engine = make()
    },
    async remove() {
      if (open) abandon()
      open = false
      rmSync(cachePath, { recursive: true, force: true })
    },
  }
}

/** The errno of what an operation throws or rejects with. */
export async function errnoOf(work: () => unknown): Promise<string> {
  try {
    await work()
  } catch (error) {
    if (error instanceof FileSystemError) return error.errno
    throw error
  }
  return 'none'
}
