/** Owns the tests of a published instance while its target does not reach the mount server. */
import { existsSync } from 'node:fs'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { poll } from '../support/poll.ts'
import type { World } from './world.ts'

const ROWS = 'SELECT id FROM kept ORDER BY id'

export function reachabilityTests(of: () => World): void {
  describe('while the mount server is unreachable', () => {
    let session: SessionView
    let startedAt: unknown

    before(async () => {
      session = await of().publish()
      await of().keep(session, 1)
      startedAt = await started()
      await of().query(session, 'CHECKPOINT')
      await of().query(session, ROWS)
      // The agent checks for changes at intervals; what it reads is fetched at its first check.
      const agent = { kind: 'target', name: 'db-7' } as const
      await of().fleet.bus.requestAgent(agent, 'session.changes', { session: session.id })
      // So does its survey of the databases, once after the publish.
      const surveyed = `${of().fleet.cacheRoot}/${session.id}/conf/surveyed.json`
      await poll(() => existsSync(surveyed) || undefined, {
        deadlineMs: 30_000,
        failure: () => 'the databases of the session were not surveyed',
      })
      await of().hosts.cut('target-agent', 'mount-agent')
    })

    after(async () => {
      await of().hosts.restoreAll()
      await of().unpublish(session.id)
    })

    async function started(): Promise<unknown> {
      const [row] = await of().query(session, 'SELECT pg_postmaster_start_time()::text AS at')
      return row?.at
    }

    it('the session stays published, and reports it', async () => {
      const view = await of().until(
        session.id,
        'reported as unreachable',
        ({ reachability }) => !!reachability,
      )
      expect(view).to.include({ state: 'published' })
      expect(view.reachability).to.include({ reachable: false, failedReads: 0 })
    })

    it('local blocks are read and written', async () => {
      await of().keep(session, 2)
      await of().query(session, 'CHECKPOINT')
      expect(await of().query(session, ROWS)).to.deep.equal([{ id: 1 }, { id: 2 }])
    })

    it('a read of a block that is not local waits, fails at its deadline, and disrupts the session', async () => {
      const error = await of()
        .query(session, 'SELECT sum(abalance) FROM pgbench_accounts')
        .then(
          () => undefined,
          (reason: Error) => reason,
        )
      expect(error?.message).to.match(/could not read/)
      const view = await of().until(session.id, 'disrupted', ({ state }) => state === 'disrupted')
      expect(view.reachability?.failedReads).to.be.greaterThan(0)
      expect(view.error).to.equal(undefined)
    })

    it('the session is published again once the mount server is back, and PostgreSQL never stopped', async () => {
      await of().hosts.restoreAll()
      await of().until(session.id, 'published', ({ state }) => state === 'published')
      await of().expectWhole(session, [1, 2])
      expect(await of().query(session, 'SELECT count(*)::int AS n FROM pgbench_accounts')).to.deep.equal([
        { n: 100_000 },
      ])
      expect(await started()).to.equal(startedAt)
    })

    it('a read waits for a mount server that is back before its deadline, and succeeds', async () => {
      await of().fleet.stop('mount-agent', 'SIGKILL')
      const waiting = of().query(session, 'SELECT count(*)::int AS n FROM archived_orders')
      await of().fleet.start('mount-agent')
      expect(await waiting).to.deep.equal([{ n: 5000 }])
      expect(await of().fleet.show(session.id)).to.include({ state: 'published' })
    })
  })
}
