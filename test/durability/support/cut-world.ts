/**
 * An engine over a backup in memory, whose local files lie on a disk that can lose its power and whose services come to
 * an end when they are told to. Images of the disk are taken while steps are done, and judged by the model.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import { type BaseTree, buildBaseTree, ROOT } from '../../../agents/target/filesystem/base-tree.ts'
import { createEngine, type Engine } from '../../../agents/target/filesystem/engine.ts'
import {
  type Fallocate,
  FileSystemError,
  type Ino,
  type RenameMode,
} from '../../../agents/target/filesystem/file-system.ts'
import { type Batch, openJournal } from '../../../agents/target/filesystem/journal.ts'
import { publishedTree } from '../../../agents/target/filesystem/published-tree.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { memorySource, pattern } from '../../filesystem/support/memory-source.ts'
import { type Certain, CutModel, type FoundFile } from './cut-model.ts'
import { CUT_FILES } from './cut-steps.ts'
import { Disk, type Survivors } from './disk.ts'
import type { Operation } from './operations.ts'
import type { Random } from './random.ts'

const CALLER = { uid: 77, gid: 88 }
const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000

/** What a cut leaves, and what may be on it. */
interface Cut {
  readonly disk: Disk
  readonly batches: readonly Batch[]
  readonly certain: Certain
}

/** What a service has to do yet: ends it. */
type Work = () => void

export interface CutOptions {
  readonly random: Random
  /** Of so many moments one is looked at. */
  readonly oneIn: number
  /** Images of each moment that is looked at. */
  readonly images: number
  /** Hands the engine other services than it should have, to see that the test finds it. */
  readonly spoil?: ((services: Services) => Services) | undefined
}

export interface CutWorld {
  /** Images judged so far. */
  readonly cuts: number
  /** Does a step and judges the images of its moments; gives what is wrong. */
  step(operation: Operation, index: number): Promise<string | undefined>
  end(): void
}

const contents = Object.fromEntries(
  Object.entries(CUT_FILES).map(([path, size], index) => [path, pattern(size, index + 1)]),
)
const fileOrder = Object.keys(contents).sort()

export async function createCutWorld({ random, oneIn, images, spoil }: CutOptions): Promise<CutWorld> {
  const logger = pino({ level: 'silent' })
  // Only asked how much room it has.
  const cachePath = mkdtempSync(join(tmpdir(), 'howdah-cut-'))
  const tree: BaseTree = await buildBaseTree(
    publishedTree(memorySource(contents).tree(), {
      mountPoint: '/m',
      walDirectory: '/w',
      extraFiles: [],
      now: 2000,
    }),
  )
  let disk = new Disk()
  let batches: Batch[] = []
  let works: Work[] = []
  /** Commits under way, the oldest first. */
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
    const made = service(on, commit, wait)
    return spoil?.(made) ?? made
  }

  function open(on: Disk, durable: readonly Batch[], services: Services): Engine {
    const journal = openJournal(':memory:')
    try {
      for (const batch of durable) journal.commit(batch)
      return createEngine({
        tree,
        cachePath,
        journalState: journal.load(),
        services,
        owner: { uid: 1, gid: 2 },
        limits: { reserveBytes: 0 },
        logger,
        io: on,
      })
    } finally {
      journal.close()
    }
  }

  let engine = open(disk, batches, services())
  watch()
  rebase(await look(engine))

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
    // A commit under way is there as a whole or not at all.
    const more = outgoing.slice(0, random.below(outgoing.length + 1))
    return { disk: disk.image(left), batches: [...batches, ...more], certain: model.certain }
  }

  /** Judges the images that were taken; what is wrong with the first bad one. */
  async function judgeAll(): Promise<string | undefined> {
    const moments = found
    found = []
    for (const moment of moments) {
      const wrong = await judge(moment)
      if (wrong !== undefined) return wrong
    }
    return undefined
  }

  /** Opens an image; what is found in it, and the engine over it, or what is wrong. */
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

  /** Goes on with an image: files can be written, and when all are gone no room is taken and nothing is left. */
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

  /** The model knows what is there, and nothing else is certain any more. */
  function rebase({ lines, files }: Seen): void {
    model = new CutModel()
    model.noteNames(lines)
    for (const { ino, content } of files) model.noteContent(ino, content)
  }

  async function reopen(from: Cut): Promise<void> {
    engine.abandon()
    disk = from.disk
    batches = [...from.batches]
    works = []
    outgoing = []
    held = []
    engine = open(disk, batches, services())
    watch()
    rebase(await look(engine))
  }

  async function settle(): Promise<void> {
    while (works.length > 0) {
      works.shift()?.()
      await turn()
    }
  }

  const find = async (path: string): Promise<Ino> => {
    const [parent, name] = await place(engine, path)
    const { ino } = await engine.lookup(parent, name)
    engine.forget(ino, 1)
    return ino
  }
  const file = async (operation: Operation): Promise<Ino> => {
    const ino = await find(String(operation.file))
    if ((engine.getattr(ino).mode & S_IFMT) !== S_IFREG) throw new FileSystemError('EISDIR')
    if (!model.knows(ino)) model.noteContent(ino, Buffer.alloc(0))
    return ino
  }

  /** Notes what is durable when a sync has succeeded. */
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
    const { step } = model
    const number = (field: string) => Number(operation[field])
    switch (operation.op) {
      case 'write': {
        const ino = await file(operation)
        const at = number('at')
        const data = pattern(number('length'), number('fill'))
        const before = model.content(ino)
        const after = Buffer.alloc(Math.max(before.length, at + data.length))
        before.copy(after)
        data.copy(after, at)
        model.noteContent(ino, after)
        await engine.write(ino, data, data.length, at)
        return
      }
      case 'read': {
        const ino = await file(operation)
        const data = Buffer.alloc(number('length'))
        const got = await engine.read(ino, data, data.length, number('at'))
        const right = model.content(ino).subarray(number('at'), number('at') + data.length)
        if (!right.equals(data.subarray(0, got))) failure ??= `${operation.file} is read wrong`
        return
      }
      case 'resize': {
        const ino = await file(operation)
        const after = Buffer.alloc(number('size'))
        model.content(ino).copy(after)
        model.noteContent(ino, after)
        await engine.setattr(ino, { size: number('size') })
        return
      }
      case 'allocate': {
        const ino = await file(operation)
        const at = number('at')
        const length = number('length')
        const before = model.content(ino)
        const grows = operation.how !== 'punch-hole' && at + length > before.length
        const after = Buffer.alloc(grows ? at + length : before.length)
        before.copy(after)
        if (operation.how !== 'allocate')
          after.fill(0, Math.min(at, after.length), Math.min(at + length, after.length))
        model.noteContent(ino, after)
        const what = operation.how as Fallocate['what']
        await engine.fallocate(ino, { what, keepSize: what === 'punch-hole' }, at, length)
        return
      }
      case 'make': {
        const [parent, name] = await place(engine, String(operation.file))
        const { ino } = engine.mknod(parent, name, S_IFREG | 0o600, 0, CALLER)
        model.noteContent(ino, Buffer.alloc(0))
        engine.forget(ino, 1)
        return
      }
      case 'mkdir': {
        const [parent, name] = await place(engine, String(operation.directory))
        engine.forget(engine.mkdir(parent, name, 0o700, CALLER).ino, 1)
        return
      }
      case 'rmdir':
        return engine.rmdir(...(await place(engine, String(operation.directory))))
      case 'unlink':
        return engine.unlink(...(await place(engine, String(operation.file))))
      case 'rename': {
        const [from, to] = [
          await place(engine, String(operation.file)),
          await place(engine, String(operation.to)),
        ]
        return engine.rename(...from, ...to, operation.how as RenameMode)
      }
      case 'link': {
        const ino = await find(String(operation.file))
        engine.forget(engine.link(ino, ...(await place(engine, String(operation.to)))).ino, 1)
        return
      }
      case 'symlink': {
        const [parent, name] = await place(engine, String(operation.file))
        engine.forget(engine.symlink(parent, name, 'some/where', CALLER).ino, 1)
        return
      }
      case 'chmod':
        await engine.setattr(await find(String(operation.file)), { mode: number('mode') })
        return
      case 'hold': {
        const ino = await file(operation)
        engine.remember(ino)
        held.push(ino)
        return
      }
      case 'let-go': {
        const ino = held.shift()
        if (ino !== undefined) engine.forget(ino, 1)
        return
      }
      case 'fsync': {
        const ino = await file(operation)
        const renamed = model.lastRename(ino)
        return whenDone(engine.fsync(ino), () => model.fileDurable(ino, step, renamed))
      }
      case 'fsyncdir':
        return whenDone(engine.fsyncdir(ROOT), () => model.namesDurable(step))
      case 'sync-changed':
        // Joins one that runs already, so that what it makes durable is not certain.
        return whenDone(engine.syncChanged(), () => undefined)
      case 'flush':
        return whenDone(engine.flush(), () => {
          model.allContentsDurable(step)
          model.namesDurable(step)
        })
      case 'disk': {
        // Syncs end in any order; commits in theirs, as there is one at a time.
        const [work] = works.splice(number('which') % Math.max(1, works.length), 1)
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
        const seen = await look(
          open(
            disk,
            batches,
            service(
              disk,
              async () => undefined,
              (end) => end(),
            ),
          ),
        )
        const now = { ...model.certain, names: model.step, contents: everything(seen, model.step) }
        failure ??= model.judge(now, seen.lines, seen.files)
        return reopen({ disk, batches, certain: now })
      }
      default:
        throw new Error(`there is no step ${operation.op}`)
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
      rmSync(cachePath, { recursive: true, force: true })
    },
  }
}

interface Seen {
  readonly lines: readonly string[]
  /** Of everything but directories. */
  readonly paths: readonly string[]
  readonly files: readonly FoundFile[]
}

function everything({ files }: Seen, step: number): Map<Ino, number> {
  return new Map(files.map(({ ino }) => [ino, step]))
}

/** Every name below `data/`, and the contents of every file when asked. */
async function look(engine: Engine, withContents = true): Promise<Seen> {
  const lines: string[] = []
  const paths: string[] = []
  const files: FoundFile[] = []
  const seen = new Set<Ino>()

  async function visit(ino: Ino, path: string): Promise<void> {
    for (const { name, ino: child } of await engine.readdir(ino)) {
      const { mode, nlink, size } = engine.getattr(child)
      const kind = mode & S_IFMT
      const target = kind === S_IFREG || kind === S_IFDIR ? '' : ` ${engine.readlink(child)} ${size}`
      lines.push(`${child} ${path}/${name} ${mode.toString(8)} ${nlink}${target}`)
      if (kind === S_IFDIR) await visit(child, `${path}/${name}`)
      else paths.push(`${path}/${name}`)
      if (kind !== S_IFREG || !withContents || seen.has(child)) continue
      seen.add(child)
      const content = Buffer.alloc(size)
      const got = size === 0 ? 0 : await engine.read(child, content, size, 0)
      if (got !== size) throw new Error(`${path}/${name}: ${got} of ${size} bytes could be read`)
      files.push({ ino: child, path: `${path}/${name}`, content })
    }
  }
  const { ino } = await engine.lookup(ROOT, 'data')
  engine.forget(ino, 1)
  await visit(ino, 'data')
  return { lines: lines.sort(), paths, files }
}

/** Directory and last name of a path. @throws FileSystemError */
async function place(engine: Engine, path: string): Promise<[Ino, string]> {
  const names = path.split('/')
  const last = names.pop() ?? ''
  let at: Ino = ROOT
  for (const name of names) {
    at = (await engine.lookup(at, name)).ino
    engine.forget(at, 1)
  }
  return [at, last]
}
