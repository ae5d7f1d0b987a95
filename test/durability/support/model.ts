/**
 * The model test: random sequences of system calls on a mount with a backup underneath, and the same on a plain
 * directory of the local file system; both must return the same results and end with the same tree. A sequence that fails
 * is shrunk.
 */
import { execFile } from 'node:child_process'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import type { MountProcess } from '../../../agents/target/mount-process/agent/mount-process.ts'
import type { MountSpec } from '../../../agents/target/mount-process/mount-spec.ts'
import { makeScratch, type Scratch, type ScratchPlace, startMount } from '../../filesystem/support/mounted.ts'
import { type Account, postgresAccount } from '../../support/postgres-cluster.ts'
import { type Abilities, BASE_FILES, type Operation, operations } from './operations.ts'
import { type Difference, MountHangs, type PosixWorker, startPosixWorker } from './posix-worker.ts'
import { type Shrunk, shrink } from './shrink.ts'

const run = promisify(execFile)

export interface ModelDriver {
  readonly name: string
  readonly able: Abilities
  /** What makes a mount process use this driver. */
  readonly spec: Partial<MountSpec>
  /** The kernel and the file system that it has; the plain directory is always in /var/tmp. */
  readonly place?: ScratchPlace
}

export interface ModelOptions {
  readonly driver: ModelDriver
  /** Approximate number of operations. */
  readonly operations: number
  readonly seed: number
  /** Operations of one sequence, at most. */
  readonly longest?: number
  /** Milliseconds since the epoch after which no new sequence begins. */
  readonly until?: number
  readonly onProgress?: (made: number) => void
}

export interface ModelOutcome {
  /** Operations made; of a failed run without those of shrinking. */
  readonly made: number
  readonly counterexample?: Counterexample
}

/** A shrunk sequence after which the two sides differ. */
export interface Counterexample {
  readonly driver: string
  readonly operations: readonly Operation[]
  readonly difference: Difference
}

/** Sequences per mount, each in a directory of its own. */
const CASES = 60
/** Milliseconds that shrinking may take. */
const SHRINK_MS = 90_000
const BASE_TIME = new Date('2010-05-06T07:08:09.500Z')

/** Runs random sequences until one fails or enough were made. */
export async function runModel(options: ModelOptions): Promise<ModelOutcome> {
  const { driver, longest = 160, until = Number.POSITIVE_INFINITY } = options
  const bench = await createBench(driver)
  let made = 0
  let failing: Shrunk<Difference> | undefined
  const property = fc.asyncProperty(operations(longest, driver.able), async (sequence) => {
    made += sequence.length
    const found = await bench.run(sequence)
    if (found !== undefined) failing = { operations: sequence, found }
    return found === undefined
  })
  try {
    for (let batch = 0; made < options.operations && Date.now() < until; batch++) {
      await fc.check(property, { seed: options.seed + batch, numRuns: 4, endOnFailure: true })
      options.onProgress?.(made)
      if (failing === undefined) continue
      const { operations, found } = await shrink(failing, bench.run, Date.now() + SHRINK_MS)
      return { made, counterexample: { driver: driver.name, operations, difference: found } }
    }
    return { made }
  } finally {
    await bench.end()
  }
}

/** Runs one sequence, such as a counterexample's. */
export async function replay(
  driver: ModelDriver,
  sequence: readonly Operation[],
): Promise<Difference | undefined> {
  const bench = await createBench(driver)
  try {
    return await bench.run(sequence)
  } finally {
    await bench.end()
  }
}

interface Bench {
  /** Runs a sequence in a fresh directory of both sides. */
  run(sequence: readonly Operation[]): Promise<Difference | undefined>
  end(): Promise<void>
}

/** Mounts and plain directories, created again when their directories are used up or a mount has failed. */
async function createBench(driver: ModelDriver): Promise<Bench> {
  const account = await postgresAccount()
  let pair: Pair | undefined
  let used = 0

  async function end(): Promise<void> {
    const ended = pair
    pair = undefined
    await ended?.remove()
  }

  return {
    async run(sequence) {
      if (used >= CASES) await end()
      if (pair === undefined) {
        used = 0
        pair = await makePair(driver, account)
      }
      try {
        return await pair.run(used++, sequence)
      } catch (error) {
        await end()
        if (!(error instanceof MountHangs)) throw error
        return { index: sequence.length, op: { op: 'check' }, mount: error.message, plain: 'an answer' }
      }
    },
    end,
  }
}

/** A mount, a plain directory beside it, and the process that calls both. */
interface Pair {
  run(directory: number, sequence: readonly Operation[]): Promise<Difference | undefined>
  remove(): Promise<void>
}

async function makePair(driver: ModelDriver, account: Account): Promise<Pair> {
  const scratch: Scratch = await makeScratch(account, driver.place)
  const base = scratch.base
  const aside = mkdtempSync('/var/tmp/howdah-plain-')
  chmodSync(aside, 0o755)
  const plain = `${aside}/plain`
  const template = `${aside}/template`
  const mount = (): Promise<MountProcess> => startMount(scratch, base, account, driver.spec)
  let worker: PosixWorker | undefined
  try {
    makeBase(base)
    mkdirSync(plain)
    await run('cp', ['-a', `${base}/c0`, template])
    await run('chown', ['-R', `${account.uid}:${account.gid}`, base, plain, template])
    await mount()
    worker = startPosixWorker(account)
  } catch (error) {
    worker?.end()
    await scratch.remove()
    rmSync(aside, { recursive: true })
    throw error
  }
  const { begin, run: call, closeFiles, end } = worker

  async function remount(crash: boolean): Promise<Difference | undefined> {
    const difference = crash ? await call([{ op: 'sync-all' }]) : undefined
    await closeFiles()
    const mounted = await mount()
    if (crash) {
      process.kill(mounted.pid, 'SIGKILL')
      await mounted.ended
    } else await mounted.stop()
    await mount()
    return difference ?? (await call([{ op: 'check' }]))
  }

  return {
    async run(directory, sequence) {
      await run('cp', ['-a', template, `${plain}/c${directory}`])
      await begin(`${scratch.data}/c${directory}`, `${plain}/c${directory}`, driver.able.exactTimes)
      let done = 0
      const steps = [...sequence, { op: 'check' }]
      for (const [index, step] of steps.entries()) {
        const remounts = step.op === 'remount' || step.op === 'crash'
        if (!remounts && index < sequence.length) continue
        const calls = steps.slice(done, remounts ? index : index + 1)
        const found = await call(calls)
        if (found !== undefined) return { ...found, index: done + found.index }
        const after = remounts ? await remount(step.op === 'crash') : undefined
        if (after !== undefined) return { ...after, index }
        done = index + 1
      }
      return undefined
    },
    async remove() {
      end()
      await scratch.remove()
      rmSync(aside, { recursive: true })
    },
  }
}

/** The backup: a directory for every sequence with the same files in it, which are stored once. */
function makeBase(base: string): void {
  for (let directory = 0; directory < CASES; directory++) {
    const home = join(base, `c${directory}`)
    for (const [index, [path, size]] of Object.entries(BASE_FILES).entries()) {
      mkdirSync(dirname(join(home, path)), { recursive: true, mode: 0o755 })
      if (directory > 0) {
        linkSync(join(base, 'c0', path), join(home, path))
        continue
      }
      const content = Buffer.from(
        Array.from({ length: size }, (_, at) => (at * 13 + (at >> 12) * 7 + index) % 256),
      )
      writeFileSync(join(home, path), content, { mode: 0o600 })
    }
  }
  const age = (path: string): void => {
    if (statSync(path).isDirectory()) for (const name of readdirSync(path)) age(join(path, name))
    utimesSync(path, BASE_TIME, BASE_TIME)
  }
  age(base)
}
