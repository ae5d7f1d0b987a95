import { expect } from 'chai'
import { pino } from 'pino'
import { createChangesReport } from '../../agents/target/changes/report.ts'
import type { PublishedSession } from '../../agents/target/session/published-session.ts'
import { createReachabilityReport } from '../../agents/target/session/reachability.ts'
import { REPEAT_MS, REPEAT_TROUBLE_MS } from '../../agents/target/session/repetition.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { Changes } from '../../messages/values.ts'
import { onBothStores } from './stores.ts'
import { openTestCoordinator, type TestClock, type TestCoordinator, until } from './test-coordinator.ts'

const START = Date.parse('2026-11-22T06:00:00Z')

/** How a report is lost. In both cases the agent cannot know it: the broker has confirmed the report. */
const LOSSES = ['before it reached the store', 'with a store that was restored from a backup'] as const

describe('what an agent tells of a session', () => onBothStores(toldAgain))

function toldAgain(openStore: () => Promise<Store>): void {
  let clock: TestClock
  let store: Store
  let coordinator: TestCoordinator
  let session: string

  beforeEach(async () => {
    clock = { now: START }
    store = await openStore()
    coordinator = await openTestCoordinator(store, clock)
    session = await coordinator.publish()
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
  })

  /** Loses the first report, and hands on every later one. */
  function losingFirst<T>(how: (typeof LOSSES)[number], handOn: (report: T) => Promise<unknown>) {
    let told = 0
    const lost = Promise.withResolvers<void>()
    async function tell(report: T): Promise<void> {
      told += 1
      if (told > 1) {
        await handOn(report)
        return
      }
      if (how === LOSSES[1]) {
        const { changes, reachability } = await coordinator.session(session)
        await handOn(report)
        await coordinator.conductor.change(session, (restored) => {
          Object.assign(restored, { changes, reachability })
        })
      }
      lost.resolve()
    }
    return { tell, lost: lost.promise }
  }

  for (const how of LOSSES) {
    it(`becomes true there although the report was lost ${how}: what was changed`, async () => {
      const found: Changes = { changed: true, databases: ['shop'] }
      const { tell, lost } = losingFirst(how, (changes: Changes) =>
        coordinator.report('session.changes', { session, changes }),
      )
      let queries = 0
      const report = createChangesReport({
        changes: {
          of: async () => {
            queries += 1
            return found
          },
        } as never,
        report: (_, changes) => tell(changes),
        logger: pino({ level: 'silent' }),
        now: () => clock.now,
      })
      const published = { session } as PublishedSession
      const known = async (): Promise<unknown> => (await coordinator.session(session)).changes
      for (let waited = 0; waited < REPEAT_MS; waited += 60_000) {
        const before = queries
        report.look(published)
        await until('it was queried', () => queries > before)
        await lost
        await new Promise((resolve) => setImmediate(resolve))
        expect(await known(), `after ${waited} ms`).to.equal(undefined)
        clock.now += 60_000
      }
      await until('it is true', async () => {
        report.look(published)
        return (await known()) !== undefined
      })
      expect(await known()).to.deep.equal(found)
    })

    for (const reachable of [false, true]) {
      it(`becomes true there although the report was lost ${how}: the mount server is ${reachable ? 'back' : 'away'}`, async () => {
        const away = { reachable: false, since: new Date(START).toISOString(), failedReads: 2 }
        if (reachable) await coordinator.report('session.reachability', { session, ...away })
        const { tell } = losingFirst(how, (found: typeof away) =>
          coordinator.report('session.reachability', { session, ...found }),
        )
        const report = createReachabilityReport(tell, () => clock.now)
        const link = {
          connected: reachable,
          lostAt: away.since,
          failedReads: reachable ? 0 : 2,
          lastError: undefined,
        }
        const isTrue = async (): Promise<boolean> =>
          ((await coordinator.session(session)).reachability === undefined) === reachable
        clock.now += 10_000
        await report.look(link)
        expect(await isTrue()).to.equal(false)
        clock.now += (reachable ? REPEAT_MS : REPEAT_TROUBLE_MS) - 1
        await report.look(link)
        expect(await isTrue()).to.equal(false)
        clock.now += 1
        await report.look(link)
        expect(await isTrue()).to.equal(true)
      })
    }
  }
}
