import { expect } from 'chai'
import type { AgentView } from '../../messages/values.ts'
import { useProductionFleet } from '../support/production-fleet.ts'

describe('an orphan', function () {
  this.timeout(120_000)
  const made = useProductionFleet()

  /** Publishes, and has the coordinator forget the session while its target is away. */
  async function makeOrphan(): Promise<string> {
    const session = await made.fleet.untilState(await made.publish(), 'published', 100)
    await made.fleet.sql(session, 'CREATE TABLE kept (n int)', made.production.database)
    await made.fleet.stop('target-agent')
    const forgotten = await made.fleet.bus.request('session.forget', { session: session.id })
    expect(forgotten.accepted, JSON.stringify(forgotten)).to.equal(true)
    await made.fleet.start('target-agent')
    await untilOrphans([session.id])
    return session.id
  }

  async function untilOrphans(expected: readonly string[]): Promise<void> {
    for (;;) {
      const { agents } = (await made.fleet.howdahJson('agents')) as { agents: AgentView[] }
      const orphans = agents.flatMap((agent) => agent.orphans ?? [])
      if (orphans.join() === expected.join()) return
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  it('is listed, and taken over with its changes as it is published', async () => {
    const id = await makeOrphan()
    await made.fleet.howdahJson('adopt', id, '--target', 'db-7')
    const session = await made.fleet.untilState(id, 'published', 100)
    await made.fleet.sql(session, 'INSERT INTO kept VALUES (1)', made.production.database)
    await made.fleet.howdahJson('unpublish', id, '--yes')
  })

  it('is removed, and nothing of it is left', async () => {
    const id = await makeOrphan()
    await made.fleet.howdahJson('adopt', id, '--target', 'db-7', '--remove')
    await made.fleet.untilState(id, 'closed', 100)
  })
})
