/**
 * Runs scenarios one after another on one fleet, whose mount agent serves a repository for each. Owns the fleet, the
 * directories of the scenarios and the templates of their clusters.
 */
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startFleet } from '../support/fleet.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { createClusters } from './cluster.ts'
import { repositoryOf, type Scenario } from './scenario.ts'
import { openWorkbench } from './workbench.ts'

export interface Lane {
  /** @throws Error when something of it does not hold */
  run(scenario: Scenario): Promise<void>
  /** Stops the fleet; its logs are shown when `failed`. */
  remove(failed?: boolean): Promise<void>
}

export async function startLane(scenarios: readonly Scenario[]): Promise<Lane> {
  const account = await postgresAccount()
  const home = await mkdtemp(join(tmpdir(), 'howdah-real-world-'))
  await chown(home, account.uid, account.gid)
  await chmod(home, 0o755)
  const clusters = createClusters(home, account)
  const nameOf = (scenario: Scenario): string => `scenario-${scenarios.indexOf(scenario) + 1}`
  const directoryOf = (scenario: Scenario): string => join(home, nameOf(scenario))
  const fleet = await startFleet({
    repositories: scenarios.map((scenario) => ({
      name: nameOf(scenario),
      ...repositoryOf(scenario, directoryOf(scenario)),
    })),
  }).catch(async (error: unknown) => {
    await rm(home, { recursive: true, force: true })
    throw error
  })

  return {
    async run(scenario) {
      const bench = await openWorkbench({
        directory: directoryOf(scenario),
        scratch: join(home, `${nameOf(scenario)}-scratch`),
        ...{ account, fleet, clusters },
        repository: nameOf(scenario),
      })
      try {
        await scenario.run(bench)
        await bench.finish()
      } catch (error) {
        // The first failure is the one to report.
        await bench.discard().catch((second: unknown) => {
          process.stderr.write(`${nameOf(scenario)} cannot be taken down: ${String(second)}\n`)
        })
        throw error
      }
    },
    async remove(failed) {
      await fleet.remove(failed)
      await rm(home, { recursive: true, force: true })
    },
  }
}
