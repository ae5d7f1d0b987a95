import { expect } from 'chai'
import type { Store } from '../../coordinator/store/store.ts'
import type { CommandBody } from '../../messages/definitions.ts'
import type { ErrorBody } from '../../messages/errors.ts'
import type { SessionSummary, TargetUsage } from '../../messages/session-list.ts'
import { onBothStores } from './stores.ts'
import {
  mountAgent,
  openTestCoordinator,
  publishBody,
  type TestClock,
  type TestCoordinator,
  targetAgent,
} from './test-coordinator.ts'

const START = Date.parse('2026-11-22T06:00:00Z')

interface Listed {
  readonly accepted: boolean
  readonly sessions: readonly SessionSummary[]
  readonly more: boolean
  readonly cursor?: string
  readonly targets?: readonly TargetUsage[]
  readonly error?: ErrorBody
}

describe('a list of sessions', () => onBothStores(listTests))

function listTests(openStore: () => Promise<Store>): void {
  let clock: TestClock
  let store: Store
  let coordinator: TestCoordinator

  beforeEach(async () => {
    clock = { now: START }
    store = await openStore()
    coordinator = await openTestCoordinator(store, clock)
    await coordinator.agentsOnline()
    await coordinator.report('agent.online', { ...targetAgent, name: 'db-8' })
    const repositories = [
      { name: 'main', format: 'pgbackrest' as const },
      { name: 'other', format: 'barman' as const },
    ]
    await coordinator.report('agent.online', { ...mountAgent, repositories })
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
  })

  async function publish(body: Partial<CommandBody<'instance.publish'>> = {}): Promise<string> {
    const reply = await coordinator.command('instance.publish', { ...publishBody, ...body })
    clock.now += 1000
    return reply.session ?? ''
  }

  /** Undone before anything was begun, so that it is closed at once. */
  async function close(session: string): Promise<void> {
    await coordinator.command('session.unpublish', { session })
    while ((await coordinator.session(session)).state !== 'closed') await coordinator.finishStep()
  }

  const list = async (body: CommandBody<'session.list'>): Promise<Listed> =>
    (await coordinator.command('session.list', body)) as unknown as Listed
  const ids = async (body: CommandBody<'session.list'>): Promise<string[]> =>
    (await list(body)).sessions.map(({ id }) => id)

  it('has the newest first, and closed ones on request', async () => {
    const [first, second, third] = [await publish(), await publish(), await publish()]
    await close(third)
    expect(await ids({})).to.deep.equal([second, first])
    expect(await ids({ all: true })).to.deep.equal([third, second, first])
    expect(await ids({ state: ['closed'] })).to.deep.equal([third])
    expect(await ids({ state: ['closed', 'validating'] })).to.deep.equal([third, second, first])
    expect(await ids({ state: ['closed'], all: false })).to.deep.equal([])
  })

  it('has those that each filter describes, and of several filters those that all describe', async () => {
    const tagged = { reference: 'job "1"', labels: { 'a.b/c': 'x', team: '%' } }
    const [here, there, elsewhere] = [
      await publish(tagged),
      await publish({ target: 'db-8', labels: { 'a.b/c': 'y', team: '%' } }),
      await publish({ repository: 'other', instance: 'billing' }),
    ]
    const expected: readonly (readonly [CommandBody<'session.list'>, readonly string[]])[] = [
      [{ target: 'db-8' }, [there]],
      [{ repository: 'other' }, [elsewhere]],
      [{ instance: 'shop' }, [there, here]],
      [{ instance: 'shop', target: 'db-7' }, [here]],
      [{ reference: 'job "1"' }, [here]],
      [{ reference: 'job "2"' }, []],
      [{ labels: { team: '%' } }, [there, here]],
      [{ labels: { team: '%', 'a.b/c': 'x' } }, [here]],
      [{ labels: { 'a.b': 'x' } }, []],
      [{ session: 'billing' }, [elsewhere]],
      [{ session: 'shop-' }, [there, here]],
      [{ session: here }, [here]],
      [{ since: '2026-11-22T06:00:01Z' }, [elsewhere, there]],
      [{ since: '2026-11-22T07:00:01+01:00', until: '2026-11-22T06:00:02Z' }, [there]],
    ]
    for (const [filter, wanted] of expected) {
      expect(await ids(filter), JSON.stringify(filter)).to.deep.equal(wanted)
    }
  })

  it('comes in pages that follow each other, whatever is made in the meantime', async () => {
    const made: string[] = []
    for (let number = 0; number < 7; number++) made.unshift(await publish())
    const seen: string[][] = []
    let cursor: string | undefined
    do {
      const page = await list({ limit: 3, ...(cursor !== undefined && { cursor }) })
      seen.push(page.sessions.map(({ id }) => id))
      expect(page.more).to.equal(page.cursor !== undefined)
      cursor = page.cursor
      await publish()
    } while (cursor !== undefined)
    expect(seen.map(({ length }) => length)).to.deep.equal([3, 3, 1])
    expect(seen.flat()).to.deep.equal(made)
  })

  it('misses none of those that were made in the same millisecond', async () => {
    const made: string[] = []
    for (let number = 0; number < 5; number++) {
      made.push(await publish())
      clock.now = START
    }
    const first = await list({ limit: 2 })
    const second = await list({ limit: 500, cursor: first.cursor ?? '' })
    expect([...first.sessions, ...second.sessions].map(({ id }) => id).sort()).to.deep.equal(made.sort())
  })

  it('is refused with a cursor that is not one', async () => {
    for (const cursor of ['x', Buffer.from('["now","a"]').toString('base64url')]) {
      const { error } = await list({ cursor })
      expect(error).to.include({ code: 'invalid_message', field: 'cursor' })
    }
  })

  it('says what the sessions of each target take, also those that it does not show', async () => {
    const session = await coordinator.publish()
    const usage = { fetchedBytes: 1, totalBytes: 2, cacheBytes: 4096 }
    await coordinator.report('session.usage', { session, usage })
    await publish()
    await publish({ target: 'db-8' })
    const page = await list({ limit: 1 })
    expect(page.targets).to.deep.equal([
      { target: 'db-7', sessions: 2, cacheBytes: 4096 },
      { target: 'db-8', sessions: 1, cacheBytes: 0 },
    ])
    expect(await list({ limit: 1, cursor: page.cursor ?? '' })).not.to.have.property('targets')
  })

  it('leaves out what only grows, which session.show has', async () => {
    const session = await coordinator.publish()
    const [row] = (await list({})).sessions
    expect(row).to.include({ id: session, state: 'published', repository: 'main' })
    expect(row).to.have.property('connection')
    expect(row).not.to.have.any.keys('steps', 'exports', 'history', 'warnings', 'warningHistory', 'undone')
  })
}
