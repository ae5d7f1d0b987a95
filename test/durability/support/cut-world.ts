/**
 * An engine over a backup in memory, whose local files are on a disk that can lose power and whose services complete
 * on request (cut-storage.ts). Images of the disk are taken during the steps, and judged (cut-judge.ts). Fetched blocks are
 * kept in a store that loses nothing: power cuts of that are fetched-cut.ts's subject.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { Engine } from '../../../agents/target/filesystem/engine.ts'
import { FileSystemError, type Ino } from '../../../agents/target/filesystem/file-system.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { actOn } from './cut-actions.ts'
import { createCutEngines } from './cut-engines.ts'
import { type Cut, judge } from './cut-judge.ts'
import { look, type Seen } from './cut-look.ts'
import { CutModel } from './cut-model.ts'
import { CutStorage, type Image } from './cut-storage.ts'
import { Disk, type Survivors } from './disk.ts'
import type { Operation } from './operations.ts'
import type { Random } from './random.ts'

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

/** An engine from its opening to the next power cut or remount. */
interface Run {
  readonly engine: Engine
  readonly storage: CutStorage
  readonly model: CutModel
  /** Inodes that are referenced as open files are. */
  readonly held: Ino[]
  /** Closes the store; what the engine has not synced is lost. */
  abandon(): void
}

export async function createCutWorld(options: CutOptions): Promise<CutWorld> {
  const { random, oneIn, images } = options
  const engines = await createCutEngines()
  /** Images that were taken and not judged yet. */
  let found: Cut[] = []
  let cuts = 0
  /** What is wrong with the current step. */
  let failure: string | undefined
  let run = await open({ disk: new Disk(), batches: [] })

  /** Continues from an image: the model starts again from what is found, and nothing else is certain any more. */
  async function open(image: Image): Promise<Run> {
    const storage = new CutStorage(image)
    const { disk } = storage
    const store = engines.openStore()
    const services = storage.services(random, store)
    const spoiled = options.spoil?.(services) ?? services
    const engine = engines.open(
      storage,
      { ...spoiled, sync: async (fd) => (disk.owns(fd) ? spoiled.sync(fd) : undefined) },
      store,
    )
    const model = new CutModel()
    disk.onEvent = () => {
      if (!random.oneIn(oneIn)) return
      for (let count = 0; count < images; count++) found.push(cut(storage, model, survivors(count)))
    }
    const { lines, files } = await engines.lookAside(storage)
    model.noteNames(lines)
    for (const { ino, content } of files) model.noteContent(ino, content)
    const abandon = () => {
      engine.abandon()
      store?.close()
    }
    return { engine, storage, model, held: [], abandon }
  }

  function survivors(count: number): Survivors {
    if (count === 0) return 'none'
    if (count === 1) return 'all'
    return { random, unit: random.oneIn(2) ? 512 : 4096 }
  }

  function cut(storage: CutStorage, model: CutModel, left: Survivors): Cut {
    return { ...storage.cut(left, random), certain: model.certain }
  }

  function judgeOne(one: Cut): Promise<string | undefined> {
    cuts++
    return judge(one, run.model, engines, random)
  }

  /** Judges the images that were taken; returns what is wrong with the first bad one. */
  async function judgeAll(): Promise<string | undefined> {
    const moments = found
    found = []
    for (const moment of moments) {
      const wrong = await judgeOne(moment)
      if (wrong !== undefined) return wrong
    }
    return undefined
  }

  /** Notes what is durable after a successful sync, unless power is lost before. */
  function whenDone(promise: Promise<void>, note: () => void): void {
    const { model } = run
    promise.then(
      () => {
        if (run.model === model) note()
      },
      (error: unknown) => {
        if (run.model === model) failure = `a sync failed: ${String(error)}`
      },
    )
  }

  async function reopen(image: Image): Promise<void> {
    run.abandon()
    run = await open(image)
  }

  async function crash(): Promise<void> {
    failure ??= await judgeAll()
    const left = cut(run.storage, run.model, survivors(random.below(8)))
    const wrong = await judgeOne({ ...left, disk: left.disk.image('all') })
    failure ??= wrong
    if (wrong === undefined) await reopen(left)
  }

  async function remount(): Promise<void> {
    const { engine, storage, model } = run
    storage.automatic = true
    await storage.settle()
    await engine.close()
    await storage.settle()
    storage.automatic = false
    failure ??= await judgeAll()
    const seen = await engines.lookAside(storage)
    const now = { ...model.certain, names: model.step, contents: everything(seen, model.step) }
    failure ??= model.judge(now, seen.lines, seen.files)
    await reopen(storage)
  }

  async function act(operation: Operation): Promise<void> {
    switch (operation.op) {
      case 'disk':
        return run.storage.complete(Number(operation.which))
      case 'disk-all':
        return run.storage.settle()
      case 'crash':
        return crash()
      case 'remount':
        return remount()
      default:
        return actOn({ ...run, whenDone }, operation)
    }
  }

  return {
    get cuts() {
      return cuts
    },
    async step(operation, index) {
      run.model.step = index + 1
      failure = undefined
      try {
        await act(operation)
      } catch (error) {
        if (!(error instanceof FileSystemError) || error.errno === 'EIO')
          return `${operation.op}: ${String(error)}`
      }
      await turn()
      run.model.noteNames((await look(run.engine, false)).lines)
      return (await judgeAll()) ?? failure
    },
    end() {
      run.abandon()
      engines.end()
    },
  }
}

function everything({ files }: Seen, step: number): Map<Ino, number> {
  return new Map(files.map(({ ino }) => [ino, step]))
}
