/** The hooks of test files that publish a production with one full backup by a fleet of their own. */
import { type Fleet, startFleet } from './fleet.ts'
import { makeProduction, type Production } from './production.ts'

export interface ProductionFleet {
  readonly production: Production
  /** Serves the repository as `main`; the target is `db-7`. */
  readonly fleet: Fleet
  /** Sends a publish of the production. @returns the session @throws Error when it is refused */
  publish(): Promise<string>
}

/**
 * Makes both before the tests of the surrounding `describe` and removes them after; a failed test keeps the logs of the fleet.
 * @param prepare what production does after its backup
 * @returns what is there while the tests run
 */
export function useProductionFleet(prepare?: (production: Production) => Promise<void>): ProductionFleet {
  let production: Production | undefined
  let fleet: Fleet | undefined
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await prepare?.(production)
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
  })

  return {
    get production() {
      return production as Production
    },
    get fleet() {
      return fleet as Fleet
    },
    async publish() {
      const body = { repository: 'main', instance: this.production.stanza, target: 'db-7' }
      const reply = await this.fleet.bus.request('instance.publish', body)
      if (!reply.accepted) throw new Error(reply.error.message)
      return reply.session
    },
  }
}
