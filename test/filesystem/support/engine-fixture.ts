/** An engine over a memory source with a write cache in a directory of its own, and short ways to use it. */
import { constants, mkdtempSync, rmSync } from 'node:fs'
import { pino } from 'pino'
import { type BaseTree, buildBaseTree, ROOT } from '../../../agents/target/filesystem/base-tree.ts'
import { createEngine, type Engine, type EngineOptions } from '../../../agents/target/filesystem/engine.ts'
import type { Attributes, Handle, Ino } from '../../../agents/target/filesystem/file-system.ts'
import { publishedTree } from '../../../agents/target/filesystem/published-tree.ts'
import type { MemorySource } from './memory-source.ts'

export const OWNER = { uid: 1234, gid: 4321 }
const CALLER = { uid: 0, gid: 0 }

export interface Fixture {
  readonly engine: Engine
  readonly cachePath: string
  /** The inode of a path. */
  ino(path: string): Promise<Ino>
  stat(path: string): Promise<Attributes>
  exists(path: string): Promise<boolean>
  open(path: string, flags?: number): Promise<Handle>
  create(path: string, content?: Buffer): Promise<Handle>
  read(handle: Handle, length: number, position: number): Promise<Buffer>
  readFile(path: string): Promise<Buffer>
  write(handle: Handle, content: Buffer, position: number): Promise<void>
  /** Directory inode and last name, as most operations take them. */
  at(path: string): Promise<[Ino, string]>
  names(path: string): Promise<string[]>
  /** Drops the engine without any farewell and opens the write cache again, once what was `underWay` is over. */
  crash(underWay?: readonly Promise<unknown>[]): Promise<void>
  /** Closes in order and opens again. */
  remount(): Promise<void>
  remove(): Promise<void>
}

/** Intervals so long that nothing becomes durable by itself. */
const NEVER = { changed: 3_600_000, fetched: 3_600_000 }

export async function makeFixture(
  source: MemorySource,
  options: Partial<EngineOptions> = {},
): Promise<Fixture> {
  const cachePath = options.cachePath ?? mkdtempSync('/var/tmp/howdah-engine-')
  const tree: BaseTree = await buildBaseTree(
    publishedTree(source.tree(), {
      mountPoint: '/mount/point',
      walDirectory: `${cachePath}/pg_wal`,
      extraFiles: [{ path: 'data/recovery.signal', content: '' }],
      now: 2000,
    }),
  )
  const make = () =>
    createEngine({
      tree,
      cachePath,
      source,
      wal: source,
      owner: OWNER,
      limits: { reserveBytes: 0 },
      logger: pino({ level: 'silent' }),
      intervals: NEVER,
      deadlineMs: 5000,
      ...options,
    })
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
  const read = async (handle: Handle, length: number, position: number) => {
    const buffer = Buffer.alloc(length, 0xee)
    const count = await engine.read(handle, buffer, length, position)
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
    open: async (path, flags = constants.O_RDWR) => engine.open(await ino(path), flags),
    async create(path, content) {
      const [directory, name] = await at(path)
      const { attributes, handle } = await engine.create(directory, name, 0o600, constants.O_RDWR, CALLER)
      engine.forget(attributes.ino, 1)
      if (content !== undefined) await engine.write(handle, content, content.length, 0)
      return handle
    },
    async readFile(path) {
      const handle = await engine.open(await ino(path), constants.O_RDONLY)
      const { size } = await stat(path)
      const content = await read(handle, size + 1, 0)
      await engine.release(handle)
      return content
    },
    async write(handle, content, position) {
      await engine.write(handle, content, content.length, position)
    },
    names: async (path) => (await engine.readdir(await ino(path))).map(({ name }) => name).sort(),
    async crash(underWay = []) {
      engine.abandon()
      // A process that is gone does nothing more; this one has to come to rest.
      await Promise.allSettled(underWay)
      engine = make()
    },
    async remount() {
      await engine.close()
      engine = make()
    },
    async remove() {
      if (open) engine.abandon()
      open = false
      rmSync(cachePath, { recursive: true, force: true })
    },
  }
}
