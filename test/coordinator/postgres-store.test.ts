/** What only the PostgreSQL store has: a server that can be away. */
import { Writable } from 'node:stream'
import { expect } from 'chai'
import { pino } from 'pino'
import { newSession, type Session } from '../../coordinator/session.ts'
import { openPostgresStore } from '../../coordinator/store/postgres.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts'
import { agentView, newAnswer, request } from './store-values.ts'

const QUERY_TIMEOUT_MS = 1_000

describe('the PostgreSQL store whose server is away', function () {
  this.timeout(60_000)
  let server: OwnPostgres
  let store: Store
  let session: Session

  before(async () => {
    server = await startOwnPostgres()
  })

  after(() => server?.remove())

  beforeEach(async () => {
    store = await openPostgresStore(server.url, pino({ level: 'silent' }), {
      queryTimeoutMs: QUERY_TIMEOUT_MS,
      connectTimeoutMs: QUERY_TIMEOUT_MS,
    })
    session = newSession(`shop-${Date.now()}`, request, 'backup-1', '2026-11-22T06:00:00.000Z')
    await store.addSession(session, { history: [] })
  })

  afterEach(() => store.close())

  const answer = newAnswer('m1', { accepted: true })

  /** One of every kind of statement and transaction. */
  const uses: Record<string, () => Promise<unknown>> = {
    'a read': () => store.session(session.id),
    'a list': () => store.dueSessions(0),
    'a save': () => store.saveSession({ ...session }, { history: [] }),
    'a save with an answer': () => store.saveSession({ ...session }, { history: [], answer }),
    'a new session': () => store.addSession({ ...session, id: 'other' }, { history: [] }),
    'an answer': () => store.saveAnswer(answer),
    'an agent': () => store.saveAgent(agentView),
  }

  async function everyUseFails(): Promise<void> {
    const started = Date.now()
    for (const [use, run] of Object.entries(uses)) {
      const failure = await run().then(
        () => 'it succeeded',
        (error: unknown) => error,
      )
      expect(failure, use).to.be.instanceOf(Unavailable)
    }
    expect(Date.now() - started).to.be.below(Object.keys(uses).length * 3 * QUERY_TIMEOUT_MS)
  }

  async function isUsable(): Promise<void> {
    expect(await store.session(session.id)).to.include({ id: session.id })
    expect(await store.saveSession(session, { history: [] })).to.equal('saved')
  }

  for (const mode of ['fast', 'immediate'] as const) {
    it(`says so after ${mode === 'fast' ? 'an orderly' : 'an immediate'} stop, and goes on when it is back`, async () => {
      await server.stop(mode)
      await everyUseFails()
      await server.start()
      await isUsable()
    })
  }

  it('opens when its server starts after it, in the time that it may take', async () => {
    await server.stop()
    const refused = Promise.withResolvers<void>()
    const destination = new Writable({
      write(chunk, _, done) {
        if (String(chunk).includes('the store cannot be used yet')) refused.resolve()
        done()
      },
    })
    const opening = openPostgresStore(server.url, pino(destination), { waitMs: 30_000 })
    await Promise.race([refused.promise, opening])
    await server.start()
    const late = await opening
    expect(late.id).to.equal(store.id)
    await late.close()
  })

  it('says so while the server is frozen, and goes on when it answers again', async () => {
    server.freeze()
    await everyUseFails()
    server.thaw()
    await isUsable()
  })

  it('blames what was asked, not the server, for what can never be saved', async () => {
    const odd = { ...session, createdAt: 'not a time', id: 'odd' }
    const failure = await store.addSession(odd, { history: [] }).catch((error: unknown) => error)
    expect(failure).to.be.an('error').and.not.instanceOf(Unavailable)
  })
})
