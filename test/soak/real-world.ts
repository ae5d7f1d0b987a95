/** Owns runs of the corpus of test/real-world, one scenario after another. */
import { startLane } from '../real-world/lane.ts'
import { SCENARIOS } from '../real-world/recipes/all.ts'

export interface RealWorldOutcome {
  /** How many ran: fewer than there are after Ctrl-C. */
  readonly scenarios: number
  /** Names of those that failed. */
  readonly failed: readonly string[]
}

/** @param grep a regular expression that the names of those that run match */
export async function runRealWorld(
  grep: string | undefined,
  log: (text: string) => void,
): Promise<RealWorldOutcome> {
  const pattern = new RegExp(grep ?? '', 'i')
  const chosen = SCENARIOS.filter(({ name }) => pattern.test(name))
  const failed: string[] = []
  let scenarios = 0
  if (chosen.length === 0) return { scenarios, failed }
  const interrupted = new AbortController()
  const interrupt = (): void => {
    log('Ctrl-C: ends after this scenario; once more ends at once, and leaves what there is')
    interrupted.abort()
  }
  process.once('SIGINT', interrupt)
  const lane = await startLane(chosen)
  try {
    for (const scenario of chosen) {
      if (interrupted.signal.aborted) break
      scenarios += 1
      const began = Date.now()
      const seconds = () => ((Date.now() - began) / 1000).toFixed(1)
      try {
        await lane.run(scenario)
        log(`ok, ${seconds()} s: ${scenario.name}`)
      } catch (error) {
        failed.push(scenario.name)
        const why = error instanceof Error ? (error.stack ?? error.message) : String(error)
        log(`FAILED, ${seconds()} s: ${scenario.name}\n  as reported in ${scenario.source}\n${why}`)
      }
    }
  } finally {
    await lane.remove(false)
    process.off('SIGINT', interrupt)
  }
  return { scenarios, failed }
}
