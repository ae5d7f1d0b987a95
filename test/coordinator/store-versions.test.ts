import { expect } from 'chai'
import { SCHEMA_VERSION } from '../../coordinator/store/schema-version.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { makeVersion1 } from './store-version-1.ts'
import { type OpenStore, onBothStores, type RawDatabase } from './stores.ts'
import { openTestCoordinator, publishBody, until } from './test-coordinator.ts'

const LATER = Date.parse('2026-11-23T06:00:00Z')

describe('a store of another release', () => onBothStores(versionTests))

function versionTests(open: OpenStore, raw: RawDatabase): void {
  let store: Store

  afterEach(() => store?.close())

  describe('that had no schema version', () => {
    beforeEach(async () => {
      await makeVersion1(raw)
      store = await open()
    })

    it('keeps its sessions, histories, agents and answers', async () => {
      const ids = (await store.sessions({ settled: true })).map(({ id }) => id)
      expect(ids).to.have.members(['unplanned', 'asking', 'published', 'closed'])
      expect(await store.session('published')).to.include({ state: 'published', stepToRetry: 'recover' })
      expect((await store.history('published', 10)).map(({ text }) => text)).to.deep.equal([
        'publish shop of main',
      ])
      expect((await store.agents()).map(({ name }) => name)).to.deep.equal(['db-7'])
      const answer = await store.answer({ sender: 'user anybody', messageId: 'm1' })
      expect(answer?.reply).to.deep.equal({ accepted: true, session: 'published' })
    })

    it('knows what is due, what its agents have, and what its targets hold', async () => {
      expect(await store.dueSessions(LATER)).to.have.members(['unplanned', 'asking'])
      expect(await store.sessionsWithStep()).to.deep.equal(['asking'])
      expect(await store.sessionsOf({ kind: 'target', name: 'db-7' })).to.have.length(3)
      expect(await store.sessionsOf({ kind: 'mount', name: 'backup-1' })).to.have.length(3)
    })

    it('is worked with as any other: what was stuck goes on, and an old command gets its old answer', async () => {
      const coordinator = await openTestCoordinator(store, { now: LATER })
      try {
        await coordinator.agentsOnline()
        const reply = await coordinator.command('instance.publish', publishBody, 'm1')
        expect(reply).to.deep.equal({ accepted: true, session: 'published' })
        coordinator.conductor.start()
        await until('the unplanned session has a step', async () => {
          const { current } = await coordinator.session('unplanned')
          return current?.step === 'resolve'
        })
      } finally {
        await coordinator.close()
      }
    })

    it('is opened again, as the same store', async () => {
      const { id } = store
      expect(id).to.match(/-\d{8}T\d{6}Z-[0-9a-f]{8}$/)
      await store.close()
      store = await open()
      expect(store.id).to.equal(id)
    })
  })

  it('that is newer is refused, and left as it is', async () => {
    await (await open()).close()
    const meta = raw.kind === 'sqlite' ? 'meta' : 'howdah.meta'
    await raw.run(`UPDATE ${meta} SET value = '99' WHERE name = 'schema'`)
    for (let time = 0; time < 2; time++) {
      const error = await open().then(
        () => undefined,
        (refusal: unknown) => refusal,
      )
      expect(error).to.include({ code: 'configuration' })
      expect((error as Error).message).to.match(/store\.(path|url).* newer release .* version 99/)
    }
    await raw.run(`UPDATE ${meta} SET value = '${SCHEMA_VERSION}' WHERE name = 'schema'`)
    store = await open()
  })

  it('is created by two programs at once only once', async () => {
    const stores = await Promise.all([open(), open(), open()])
    expect(new Set(stores.map(({ id }) => id)).size).to.equal(1)
    await Promise.all(stores.slice(1).map((one) => one.close()))
    store = stores[0] as Store
  })
}
