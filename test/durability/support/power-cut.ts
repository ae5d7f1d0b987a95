/** The power cut test: random steps on an engine, images of its disk at many moments, and shrunk counterexamples. */
import fc from 'fast-check'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { cutSteps } from './cut-steps.ts'
import { createCutWorld } from './cut-world.ts'
import type { Operation } from './operations.ts'
import { createRandom } from './random.ts'
import { type Shrunk, shrink } from './shrink.ts'

export interface PowerCutOptions {
  /** Approximate number of images to check. */
  readonly cuts: number
  readonly seed: number
  /** Milliseconds since the epoch after which no new sequence begins. */
  readonly until?: number
  readonly onProgress?: (cuts: number) => void
  readonly spoil?: (services: Services) => Services
  /** Milliseconds that shrinking may take. */
  readonly shrinkMs?: number
}

export interface CutFailure {
  /** The step after which the image was taken. */
  readonly index: number
  readonly wrong: string
}

export interface PowerCutOutcome {
  readonly cuts: number
  readonly steps: number
  readonly counterexample?: {
    readonly seed: number
    readonly operations: readonly Operation[]
    readonly wrong: string
  }
}

const LONGEST = 120
const SHRINK_MS = 60_000

/** Runs random sequences until one fails or enough images were checked. */
export async function runPowerCuts(options: PowerCutOptions): Promise<PowerCutOutcome> {
  const { seed, until = Number.POSITIVE_INFINITY, spoil } = options
  let cuts = 0
  let steps = 0
  let failing: Shrunk<CutFailure> | undefined
  const property = fc.asyncProperty(cutSteps(LONGEST), async (sequence) => {
    const { failure, cuts: judged } = await runCuts(sequence, { seed, oneIn: 5, images: 3, spoil })
    cuts += judged
    steps += sequence.length
    if (failure !== undefined) failing = { operations: sequence, found: failure }
    return failure === undefined
  })
  for (let batch = 0; cuts < options.cuts && Date.now() < until; batch++) {
    await fc.check(property, { seed: seed + batch, numRuns: 4, endOnFailure: true })
    options.onProgress?.(cuts)
    if (failing === undefined) continue
    // More images of every moment, because removed steps change the random choices.
    const again = async (sequence: readonly Operation[]) =>
      (await runCuts(sequence, { seed, oneIn: 1, images: 6, spoil })).failure
    const { operations, found } = await shrink(failing, again, Date.now() + (options.shrinkMs ?? SHRINK_MS))
    return { cuts, steps, counterexample: { seed, operations, wrong: found.wrong } }
  }
  return { cuts, steps }
}

/** Runs one sequence; the same seed takes the same images. */
export async function runCuts(
  sequence: readonly Operation[],
  options: {
    readonly seed: number
    readonly oneIn: number
    readonly images: number
    readonly spoil?: ((services: Services) => Services) | undefined
  },
): Promise<{ readonly failure?: CutFailure; readonly cuts: number }> {
  const world = await createCutWorld({ ...options, random: createRandom(options.seed) })
  try {
    for (const [index, operation] of sequence.entries()) {
      const wrong = await world.step(operation, index)
      if (wrong !== undefined) return { failure: { index, wrong }, cuts: world.cuts }
    }
    return { cuts: world.cuts }
  } finally {
    world.end()
  }
}
