import { expect } from 'chai'
import type { MachineProcess } from '../support/inventory.ts'
import { postmasters } from '../support/session-processes.ts'
import { phaseTests } from './phases.ts'
import { reachabilityTests } from './reachability.ts'
import { retryTests } from './retry.ts'
import { makeWorld, type World } from './world.ts'

describe('disruptions', function () {
  this.timeout(120_000)
  let world: World

  before(async () => {
    world = await makeWorld()
  })

  after(async function () {
    await world?.remove(!allPassed(this.test?.parent))
  })

  reachabilityTests(() => world)
  phaseTests(() => world)
  retryTests(() => world)

  it('a publish completes after kill -9 of PostgreSQL in the middle of recovery', async () => {
    const id = await world.begin()
    await world.untilStep(id, 'recover')
    let servers: readonly MachineProcess[] = []
    while (servers.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 5))
      servers = postmasters(world.fleet, id)
    }
    for (const { pid } of servers) process.kill(pid, 'SIGKILL')
    const view = await world.untilPublished(id)
    await world.expectWhole(view, [])
    expect(await world.errors(id)).to.include('postgres_killed')
    await world.unpublish(id)
  })
})

/** A hook that fails leaves tests that did not run. */
function allPassed(suite: Mocha.Suite | undefined): boolean {
  if (suite === undefined) return false
  return suite.tests.every(({ state }) => state === 'passed') && suite.suites.every(allPassed)
}
