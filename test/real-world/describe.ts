/** A share of the corpus as mocha's tests. */
import { type Lane, startLane } from './lane.ts'
import type { Scenario } from './scenario.ts'

export function describeScenarios(title: string, scenarios: readonly Scenario[]): void {
  const share = scenarios.filter((scenario) => scenario.share === 'ci')
  describe(title, function () {
    this.timeout(120_000)
    let lane: Lane
    let failed = false

    before(async () => {
      lane = await startLane(share)
    })
    afterEach(function () {
      failed ||= this.currentTest?.state === 'failed'
    })
    after(() => lane?.remove(failed))

    for (const scenario of share) it(scenario.name, () => lane.run(scenario))
  })
}
