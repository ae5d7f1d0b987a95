/**
 * Owns `npm run soak`: the durability tests for any time, with random sequences that a seed repeats. A failure is printed
 * as small as it can be made, in a form that `--replay` runs again.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import fc from 'fast-check'
import { DRIVERS } from '../durability/support/drivers.ts'
import { runFetchedCuts } from '../durability/support/fetched-cut.ts'
import { runKills } from '../durability/support/kill.ts'
import { replay, runModel } from '../durability/support/model.ts'
import type { Operation } from '../durability/support/operations.ts'
import { runCuts, runPowerCuts } from '../durability/support/power-cut.ts'
import { PGBACKREST_FUZZ } from '../repository/fuzz.ts'
import { TAR_FUZZ } from '../repository/tar-fuzz.ts'
import { stopTestBroker } from '../support/broker.ts'
import { runBrokerCluster } from './broker-cluster.ts'
import { runChaos } from './chaos/chaos.ts'
import { runManyDatabases } from './many-databases.ts'
import { runSoakFile } from './mocha-files.ts'
import { runRealWorld } from './real-world.ts'
import { runRegression } from './regression.ts'

const USAGE = `Usage: npm run soak -- [model|power-cut|kill|fuzz]... [--operations N | --minutes M] [--seed S] [--driver D]
       npm run soak -- chaos --minutes N [--seed S]
       npm run soak -- real-world [--grep X]
       npm run soak -- many-databases
       npm run soak -- kernels|file-systems
       npm run soak -- broker-cluster
       npm run soak -- regression
       npm run soak -- --replay FILE

  model       random system calls on a mount and on a plain directory, for each driver (default 100,000 operations)
  power-cut   images of what a power cut could leave of the write cache and of the fetched store (default 20,000)
  kill        kill -9 of the mount process of a published instance under load (default 50)
  fuzz        manifests, block maps and tar archives that no tool wrote, through the readers (default 20,000 of each kind)
All of these when none is named, and, only when it is named:
  chaos       random faults on several hosts, into sessions that random users work with (default 5 minutes)
  real-world  clusters, archives and repositories as other people have reported them, each published once
  kernels     the driver and a published instance with what older kernels offer, and without each feature
  file-systems  write caches on each file system that this kernel has
  many-databases  a cluster with 5,000 databases: published, listed, changed and exported
  broker-cluster  three RabbitMQ nodes, of which one hangs and one is cut off under two coordinators
  regression  PostgreSQL's own regression suite on a published instance; downloads packages and sources of PostgreSQL
--operations and --minutes are for each of them (of model: for each driver).
  --seed S    repeats a run (default: the time)
  --driver D  kernel or fuse-native only
  --grep X    of real-world: only the scenarios whose sentence matches the regular expression X
  --replay FILE  runs the counterexample that a failed run has written
`

const TESTS = [
  'model',
  'power-cut',
  'kill',
  'fuzz',
  'chaos',
  'real-world',
  'many-databases',
  'kernels',
  'file-systems',
  'broker-cluster',
  'regression',
] as const
type Test = (typeof TESTS)[number]
const USUAL: readonly Test[] = ['model', 'power-cut', 'kill', 'fuzz']
const OPERATIONS = {
  model: 100_000,
  'power-cut': 20_000,
  kill: 50,
  fuzz: 20_000,
  chaos: 0,
  'real-world': 0,
  'many-databases': 0,
  kernels: 0,
  'file-systems': 0,
  'broker-cluster': 0,
  regression: 0,
} as const satisfies Record<Test, number>
const CHAOS_MINUTES = 5
/** Images of the write cache for one of the fetched store, which takes longer. */
const FETCHED_SHARE = 40

interface Options {
  readonly tests: readonly Test[]
  readonly operations: number | undefined
  readonly minutes: number | undefined
  readonly seed: number
  readonly driver: string | undefined
  readonly grep: string | undefined
  readonly replay: string | undefined
}

/** What a failed run leaves: enough to run it again. */
type Counterexample =
  | { readonly test: 'model'; readonly driver: string; readonly operations: readonly Operation[] }
  | { readonly test: 'power-cut'; readonly seed: number; readonly operations: readonly Operation[] }

class UsageError extends Error {}

function readOptions(): Options {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        operations: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        driver: { type: 'string' },
        grep: { type: 'string' },
        replay: { type: 'string' },
      },
    })
    for (const name of positionals) {
      if (!(TESTS as readonly string[]).includes(name)) throw new UsageError(`there is no soak ${name}`)
    }
    if (values.operations !== undefined && values.minutes !== undefined) {
      throw new UsageError('--operations and --minutes exclude each other')
    }
    if (values.driver !== undefined && !DRIVERS.some(({ name }) => name === values.driver)) {
      throw new UsageError(`there is no driver ${values.driver}`)
    }
    return {
      tests: positionals.length > 0 ? (positionals as Test[]) : USUAL,
      operations: positive('operations', values.operations, true),
      minutes: positive('minutes', values.minutes, false),
      seed: positive('seed', values.seed, true) ?? Date.now() % 1_000_000_000,
      driver: values.driver,
      grep: values.grep,
      replay: values.replay,
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`)
    process.exit(2)
  }
}

function positive(name: string, value: string | undefined, whole: boolean): number | undefined {
  if (value === undefined) return undefined
  const number = Number(value)
  if (!(number > 0) || (whole && !Number.isSafeInteger(number))) {
    throw new UsageError(`--${name} takes a positive ${whole ? 'whole ' : ''}number, not ${value}`)
  }
  return number
}

/** Prints at most once in five seconds. */
function progress(what: string): (done: string) => void {
  let printed = Date.now()
  return (done) => {
    if (Date.now() - printed < 5000) return
    printed = Date.now()
    process.stdout.write(`${what}: ${done}\n`)
  }
}

function report(what: string, counterexample: Counterexample, difference: unknown): false {
  const file = join(tmpdir(), `soak-${counterexample.test}-${process.pid}.json`)
  writeFileSync(file, `${JSON.stringify(counterexample)}\n`)
  process.stdout.write(
    `${what}: FAILED after ${counterexample.operations.length} operations\n` +
      `${counterexample.operations.map((one) => `  ${JSON.stringify(one)}`).join('\n')}\n` +
      `${typeof difference === 'string' ? difference : JSON.stringify(difference, null, 2)}\n` +
      `Once more: npm run soak -- --replay ${file}\n`,
  )
  return false
}

async function soakModel(options: Options, operations: number, until: number | undefined): Promise<boolean> {
  let good = true
  for (const driver of DRIVERS) {
    if (options.driver !== undefined && options.driver !== driver.name) continue
    const what = `model, ${driver.name}`
    const printProgress = progress(what)
    const began = Date.now()
    const { made, counterexample } = await runModel({
      driver,
      operations,
      seed: options.seed,
      ...(until !== undefined && { until: Date.now() + until }),
      onProgress: (count) => printProgress(`${count} operations`),
    })
    const seconds = (Date.now() - began) / 1000
    process.stdout.write(`${what}: ${made} operations, ${Math.round(made / seconds)} a second\n`)
    if (counterexample !== undefined) {
      const { difference, ...rest } = counterexample
      good = report(what, { test: 'model', ...rest }, difference)
    }
  }
  return good
}

async function soakPowerCuts(options: Options, cuts: number, until: number | undefined): Promise<boolean> {
  const { seed } = options
  const printProgress = progress('power-cut')
  const outcome = await runPowerCuts({
    cuts,
    seed,
    ...(until !== undefined && { until: Date.now() + until }),
    onProgress: (count) => printProgress(`${count} images`),
  })
  process.stdout.write(`power-cut: ${outcome.cuts} images of ${outcome.steps} steps\n`)
  const { counterexample } = outcome
  if (counterexample !== undefined) {
    const { wrong, operations } = counterexample
    return report('power-cut', { test: 'power-cut', seed: counterexample.seed, operations }, wrong)
  }
  const fetched = await runFetchedCuts({
    cuts: until === undefined ? Math.ceil(cuts / FETCHED_SHARE) : Number.POSITIVE_INFINITY,
    seed,
    ...(until !== undefined && { until: Date.now() + until / 4 }),
    onProgress: (count) => printProgress(`${count} cuts of the fetched store`),
  })
  process.stdout.write(`power-cut: ${fetched.cuts} cuts of the fetched store\n`)
  if (fetched.wrong !== undefined) process.stdout.write(`power-cut: FAILED: ${fetched.wrong}\n`)
  return fetched.wrong === undefined
}

async function soakKills(options: Options, kills: number, until: number | undefined): Promise<boolean> {
  const printProgress = progress('kill')
  const shown = (outcome: object) => JSON.stringify(outcome).replaceAll(/[{}"]/g, '').replaceAll(',', ', ')
  try {
    const outcome = await runKills({
      kills,
      seed: options.seed,
      ...(until !== undefined && { until: Date.now() + until }),
      onProgress: (now) => printProgress(shown(now)),
    })
    process.stdout.write(`kill: ${shown(outcome)}\n`)
    return true
  } catch (error) {
    process.stdout.write(`kill: FAILED: ${error instanceof Error ? error.stack : String(error)}\n`)
    return false
  }
}

async function soakChaos(options: Options, _: number, until: number | undefined): Promise<boolean> {
  const shown = (outcome: object) => JSON.stringify(outcome).replaceAll(/[{}"]/g, '').replaceAll(',', ', ')
  try {
    const outcome = await runChaos({
      seed: options.seed,
      until: Date.now() + (until ?? CHAOS_MINUTES * 60_000),
      onProgress: (now) => process.stdout.write(`chaos: ${shown(now)}\n`),
      log: (text) => process.stdout.write(`chaos: ${text}\n`),
    })
    process.stdout.write(`chaos: ${shown(outcome)}\n`)
    return true
  } catch (error) {
    process.stdout.write(`chaos: FAILED: ${error instanceof Error ? error.stack : String(error)}\n`)
    return false
  }
}

async function soakRealWorld({ grep }: Options): Promise<boolean> {
  const outcome = await runRealWorld(grep, (text) => process.stdout.write(`real-world: ${text}\n`))
  const { scenarios, failed } = outcome
  process.stdout.write(`real-world: ${scenarios} scenarios, ${failed.length} failed\n`)
  return scenarios > 0 && failed.length === 0
}

async function soakRegression(): Promise<boolean> {
  const { version, passed, output } = await runRegression((text) =>
    process.stdout.write(`regression: ${text}\n`),
  )
  process.stdout.write(`${output.trimEnd()}\nregression: ${version} ${passed ? 'passed' : 'FAILED'}\n`)
  return passed
}

/** fast-check prints a failure as small as it can be made, with the seed that repeats it. */
async function soakFuzz(options: Options, runs: number, until: number | undefined): Promise<boolean> {
  let good = true
  const properties = Object.entries({
    ...PGBACKREST_FUZZ,
    'a tar archive that no program writes is read within its bounds, or refused': TAR_FUZZ,
  })
  for (const [name, property] of properties) {
    const outcome = await fc.check(property, {
      numRuns: Math.min(runs, 2 ** 31 - 1),
      seed: options.seed,
      ...(until !== undefined && { interruptAfterTimeLimit: until / properties.length }),
    })
    process.stdout.write(`fuzz: ${outcome.numRuns} times: ${name}\n`)
    if (!outcome.failed) continue
    good = false
    process.stdout.write(`fuzz: FAILED: ${fc.defaultReportMessage(outcome)}\n`)
  }
  return good
}

async function runReplay(file: string): Promise<boolean> {
  const counterexample = JSON.parse(readFileSync(file, 'utf8')) as Counterexample
  const { operations } = counterexample
  if (counterexample.test === 'power-cut') {
    const { failure } = await runCuts(operations, { seed: counterexample.seed, oneIn: 1, images: 6 })
    process.stdout.write(failure === undefined ? 'It does not fail.\n' : `It fails: ${failure.wrong}\n`)
    return failure === undefined
  }
  const driver = DRIVERS.find(({ name }) => name === counterexample.driver)
  if (driver === undefined) throw new UsageError(`there is no driver ${counterexample.driver}`)
  const difference = await replay(driver, operations)
  process.stdout.write(
    difference === undefined ? 'It does not fail.\n' : `It fails: ${JSON.stringify(difference, null, 2)}\n`,
  )
  return difference === undefined
}

async function soak(options: Options): Promise<boolean> {
  if (options.replay !== undefined) return runReplay(options.replay)
  process.stdout.write(`seed ${options.seed}\n`)
  const until = options.minutes === undefined ? undefined : options.minutes * 60_000
  let good = true
  for (const test of options.tests) {
    const operations =
      options.operations ?? (until === undefined ? OPERATIONS[test] : Number.POSITIVE_INFINITY)
    const run = {
      model: soakModel,
      'power-cut': soakPowerCuts,
      kill: soakKills,
      fuzz: soakFuzz,
      chaos: soakChaos,
      'real-world': soakRealWorld,
      'many-databases': runManyDatabases,
      kernels: async () => runSoakFile('kernels'),
      'file-systems': async () => runSoakFile('file-systems'),
      'broker-cluster': () => runBrokerCluster((text) => process.stdout.write(`broker-cluster: ${text}\n`)),
      regression: soakRegression,
    }[test]
    good = (await run(options, operations, until)) && good
  }
  return good
}

const options = readOptions()
try {
  process.exitCode = (await soak(options)) ? 0 : 1
} finally {
  await stopTestBroker()
}
