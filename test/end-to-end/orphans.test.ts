import { expect } from 'chai'
import type { AgentView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('an orphan', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
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

  /** Publishes, and has the coordinator forget the session while its target is away. */
  async function makeOrphan(): Promise<string> {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7' }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    const session = await fleet.untilState(reply.session, 'published', 100)
    await fleet.sql(session, 'CREATE TABLE kept (n int)', production.database)
    await fleet.stop('target-agent')
    const forgotten = await fleet.bus.request('session.forget', { session: session.id })
    expect(forgotten.accepted, JSON.stringify(forgotten)).to.equal(true)
    await fleet.start('target-agent')
    await untilOrphans([session.id])
    return session.id
  }

  async function untilOrphans(expected: readonly string[]): Promise<void> {
    for (;;) {
      const { agents } = (await fleet.howdahJson('agents')) as { agents: AgentView[] }
      const orphans = agents.flatMap((agent) => agent.orphans ?? [])
      if (orphans.join() === expected.join()) return
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  it('is listed, and taken over with its changes as it is published', async () => {
    const id = await makeOrphan()
    await fleet.howdahJson('adopt', id, '--target', 'db-7')
    const session = await fleet.untilState(id, 'published', 100)
    await fleet.sql(session, 'INSERT INTO kept VALUES (1)', production.database)
    await fleet.howdahJson('unpublish', id, '--yes')
  })

  it('is removed, and nothing of it is left', async () => {
    const id = await makeOrphan()
    await fleet.howdahJson('adopt', id, '--target', 'db-7', '--remove')
    await fleet.untilState(id, 'closed', 100)
  })
})
