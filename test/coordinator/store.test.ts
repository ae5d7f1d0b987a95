import { expect } from 'chai'
import { newSession, type Session } from '../../coordinator/session.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import {
  type Added,
  type Answer,
  MAX_HISTORY,
  type NewAnswer,
  type Store,
  type TargetLimits,
} from '../../coordinator/store/store.ts'
import type { HistoryEntry } from '../../messages/values.ts'
import { agentView as agent, auditEntry, newAnswer, request } from './store-values.ts'
import { type OpenStore, onBothStores } from './stores.ts'

function session(id: string, createdAt = '2026-11-22T06:00:00.000Z'): Session {
  return newSession(id, request, 'backup-1', createdAt)
}

function answer({ messageId, reply }: { messageId: string; reply: object }): NewAnswer {
  return newAnswer(messageId, reply)
}

/** What is given again. */
function answered({ audit: _, ...kept }: NewAnswer): Answer {
  return kept
}

function storeContract(open: OpenStore): void {
  let store: Store

  beforeEach(async () => {
    store = await open()
  })

  afterEach(() => store.close())

  it('gives a session back as it was saved, also after a restart', async () => {
    const saved = session('shop-1')
    await store.addSession(saved, {
      history: [],
      answer: answer({ messageId: 'm1', reply: { accepted: true } }),
    })
    saved.warnings.push('mind the gap')
    const room = { about: 'quota', level: 'low', message: '81 %', at: '2026-11-22T06:00:00.000Z' } as const
    saved.warningHistory = [room]
    expect(await store.saveSession(saved, { history: [] })).to.equal('saved')
    await store.close()
    store = await open()
    expect(await store.session('shop-1')).to.deep.include({
      version: 1,
      warnings: ['mind the gap'],
      warningHistory: [room],
    })
  })

  it('adds a session and the answer to its command together, and only once', async () => {
    const more = {
      history: [],
      answer: answer({ messageId: 'm1', reply: { accepted: true, session: 'shop-1' } }),
    }
    expect(await store.addSession(session('shop-1'), more)).to.deep.equal({ outcome: 'added' })
    expect(await store.addSession(session('shop-2'), more)).to.deep.equal({ outcome: 'answered' })
    expect(await store.session('shop-2')).to.equal(undefined)
    expect(await store.answer(more.answer)).to.deep.equal(answered(more.answer))
  })

  it('refuses a save based on an older version, so that no change is lost', async () => {
    await store.addSession(session('shop-1'), { history: [], answer: answer({ messageId: 'm1', reply: {} }) })
    const [mine, theirs] = [await store.session('shop-1'), await store.session('shop-1')]
    expect(await store.saveSession(mine as Session, { history: [] })).to.equal('saved')
    expect(await store.saveSession(theirs as Session, { history: [] })).to.equal('stale')
  })

  it('lists sessions newest first, settled ones only when asked for', async () => {
    for (const [index, state] of (['published', 'closed', 'failed', 'validating'] as const).entries()) {
      const one = { ...session(`shop-${index}`, `2026-11-22T06:00:0${index}.000Z`), state }
      await store.addSession(one, { history: [], answer: answer({ messageId: `m${index}`, reply: {} }) })
    }
    const ids = (sessions: Session[]): string[] => sessions.map(({ id }) => id)
    expect(ids(await store.sessions({ settled: false }))).to.deep.equal(['shop-3', 'shop-0'])
    expect(ids(await store.sessions({ settled: true, limit: 3 }))).to.deep.equal([
      'shop-3',
      'shop-2',
      'shop-1',
    ])
  })

  it('keeps the history of a session in order, and deletes it with the session', async () => {
    const entry = (number: number): HistoryEntry => ({
      number,
      at: '2026-11-22T06:00:00.000Z',
      type: 'state',
      text: `entry ${number}`,
    })
    const kept = session('shop-1')
    await store.addSession(kept, { history: [entry(1)], answer: answer({ messageId: 'm1', reply: {} }) })
    const stale = { ...kept }
    await store.saveSession(kept, { history: [entry(2), entry(3)] })
    expect(await store.saveSession(stale, { history: [entry(2)] })).to.equal('stale')
    expect(await store.history('shop-1', 10)).to.deep.equal([entry(1), entry(2), entry(3)])
    expect(await store.history('shop-1', 2)).to.deep.equal([entry(2), entry(3)])
    await store.saveSession({ ...kept, state: 'closed' }, { history: [] })
    await store.prune(new Date(Date.now() + 1000))
    expect(await store.history('shop-1', 10)).to.deep.equal([])
  })

  it('keeps the first answer to a command', async () => {
    const first = answer({ messageId: 'm1', reply: { accepted: true } })
    expect(await store.saveAnswer(first)).to.equal(true)
    expect(await store.saveAnswer({ ...first, reply: { accepted: false } })).to.equal(false)
    expect(await store.answer(first)).to.deep.equal(answered(first))
    expect(await store.answer({ ...first, messageId: 'm2' })).to.equal(undefined)
    expect(await store.answer({ ...first, sender: 'user other' })).to.equal(undefined)
  })

  it('keeps the newest entries of a long history', async () => {
    const entry = (number: number): HistoryEntry => ({
      ...{ number, at: '2026-11-22T06:00:00.000Z', type: 'state', text: `entry ${number}` },
    })
    const long = session('shop-1')
    await store.addSession(long, { history: [entry(1)] })
    const more = Array.from({ length: MAX_HISTORY + 9 }, (_, index) => entry(index + 2))
    await store.saveSession(long, { history: more.slice(0, -9) })
    await store.saveSession(long, { history: more.slice(-9) })
    const kept = await store.history('shop-1', 10 * MAX_HISTORY)
    expect(kept).to.have.length(MAX_HISTORY)
    expect(kept.at(-1)?.number).to.equal(MAX_HISTORY + 10)
  })

  it('keeps text that PostgreSQL cannot hold, with a replacement for what that is', async () => {
    const odd = 'a\0b \ud800 c \\u0000 \u{1f418}'
    const shown = 'a\ufffdb \ufffd c \\u0000 \u{1f418}'
    const one = session('shop-1')
    one.warnings.push(odd)
    const entry: HistoryEntry = { number: 1, at: '2026-11-22T06:00:00.000Z', type: 'warning', text: odd }
    const kept = answer({ messageId: odd, reply: { accepted: true, session: odd } })
    expect((await store.addSession(one, { history: [entry], answer: kept })).outcome).to.equal('added')
    await store.saveAgent({ ...agent, host: odd })
    expect((await store.session('shop-1'))?.warnings).to.deep.equal([shown])
    expect((await store.history('shop-1', 1))[0]?.text).to.equal(shown)
    expect((await store.answer(kept))?.reply).to.include({ session: shown })
    expect((await store.agents())[0]?.host).to.equal(shown)
  })

  it('holds the limits of a target against what it has, and says what that is', async () => {
    const add = (id: string, changes: Partial<Session>, limits?: TargetLimits): Promise<Added> =>
      store.addSession({ ...session(id), ...changes }, { history: [] }, limits)
    const usage = { fetchedBytes: 0, totalBytes: 0, cacheBytes: 5 }
    await add('open', { usage })
    await add('kept', { usage, state: 'closed', keepCache: true })
    await add('over', { usage, state: 'closed' })
    await add('elsewhere', { usage, request: { ...request, target: 'db-8' } })
    const full = { outcome: 'full', usage: { sessions: 1, cacheBytes: 10 } } as const
    expect(await add('more', {}, { sessions: 1, cacheBytes: null })).to.deep.equal(full)
    expect(await add('more', {}, { sessions: null, cacheBytes: 10 })).to.deep.equal(full)
    expect(await add('more', {}, { sessions: 2, cacheBytes: 11 })).to.deep.equal({ outcome: 'added' })
    expect(await add('more', {}, { sessions: 9, cacheBytes: null })).to.deep.equal({ outcome: 'id-taken' })
  })

  it('settles each of many saves that come at once by itself', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `shop-${index}`)
    await Promise.all(names.map((id) => store.addSession(session(id), { history: [] })))
    const saves = names.flatMap((id) => [session(id), session(id)])
    const outcomes = await Promise.all(saves.map((one) => store.saveSession(one, { history: [] })))
    expect(outcomes.filter((outcome) => outcome === 'saved')).to.have.length(40)
    expect(outcomes.filter((outcome) => outcome === 'stale')).to.have.length(40)
  })

  it('removes an agent and keeps the answer to the command that says so, only once', async () => {
    const forgotten = answer({ messageId: 'm1', reply: { accepted: true, sessions: [] } })
    await store.saveAgent(agent)
    expect(await store.removeAgent('target', 'db-7', forgotten)).to.equal(true)
    expect(await store.agents()).to.deep.equal([])
    await store.saveAgent(agent)
    expect(await store.removeAgent('target', 'db-7', forgotten)).to.equal(false)
    expect(await store.agents()).to.deep.equal([agent])
  })

  it('remembers the turns of coordinators that were saved last, and answers while it can be used', async () => {
    expect(await store.turns()).to.deep.equal([])
    await store.saveTurns(['first'])
    await store.saveTurns(['second', 'first'])
    expect(await store.turns()).to.deep.equal(['second', 'first'])
    await store.ping()
  })

  it('keeps the latest state of every agent', async () => {
    await store.saveAgent(agent)
    await store.saveAgent({ ...agent, online: false })
    await store.saveAgent({ ...agent, kind: 'mount' })
    expect(await store.agents()).to.deep.equal([
      { ...agent, kind: 'mount' },
      { ...agent, online: false },
    ])
  })

  it('prunes old settled sessions and answers, but no active session and none with kept changes', async () => {
    for (const state of ['published', 'closed'] as const) {
      await store.addSession(
        { ...session(state), state },
        { history: [], answer: answer({ messageId: state, reply: {} }) },
      )
    }
    const kept: Session = { ...session('kept'), state: 'closed', keepCache: true }
    await store.addSession(kept, { history: [], answer: answer({ messageId: 'kept', reply: {} }) })
    await store.prune(new Date(Date.now() + 1000))
    const left = (await store.sessions({ settled: true })).map(({ id }) => id).sort()
    expect(left).to.deep.equal(['kept', 'published'])
    expect(await store.answer({ sender: 'user test', messageId: 'closed' })).to.equal(undefined)
  })

  describe('keeps for the audit stream', () => {
    const waiting = async (limit = 100): Promise<string[]> =>
      (await store.auditEntries(limit)).map(({ entry }) => entry.body.id)

    it('the entries that were saved with a change or an answer, in their order, until they are in it', async () => {
      const one = session('shop-1')
      await store.addSession(one, {
        ...{ history: [], answer: answer({ messageId: 'm1', reply: {} }) },
        audit: [auditEntry('new')],
      })
      await store.saveSession(one, { history: [], audit: [auditEntry('mounting'), auditEntry('published')] })
      await store.saveAnswer(answer({ messageId: 'm2', reply: {} }))
      await store.saveAuditEntry(auditEntry('refused'))
      await store.close()
      store = await open()
      expect(await waiting()).to.deep.equal(['m1', 'new', 'mounting', 'published', 'm2', 'refused'])
      const first = await store.auditEntries(2)
      expect(first[0]?.entry).to.deep.equal(auditEntry('m1'))
      await store.audited(first.map(({ number }) => number))
      expect(await waiting(2)).to.deep.equal(['mounting', 'published'])
    })

    it('none of a change or an answer that was not saved', async () => {
      const one = session('shop-1')
      await store.addSession(one, { history: [], answer: answer({ messageId: 'm1', reply: {} }) })
      const stale = { ...one, version: 7 }
      const again = { history: [], answer: answer({ messageId: 'm1', reply: {} }), audit: [auditEntry('no')] }
      expect(await store.saveSession(stale, { history: [], audit: [auditEntry('no')] })).to.equal('stale')
      expect(await store.saveSession(one, again)).to.equal('answered')
      expect((await store.addSession(one, { history: [], audit: [auditEntry('no')] })).outcome).to.equal(
        'id-taken',
      )
      expect(await store.saveAnswer(again.answer)).to.equal(false)
      expect(await waiting()).to.deep.equal(['m1'])
    })

    it('nothing that has waited longer than what else is pruned, and says how many were lost', async () => {
      await store.saveAuditEntry(auditEntry('a'))
      await store.saveAuditEntry(auditEntry('b'))
      expect(await store.prune(new Date(Date.now() - 60_000))).to.deep.equal({ lostAuditEntries: 0 })
      expect(await store.prune(new Date(Date.now() + 1000))).to.deep.equal({ lostAuditEntries: 2 })
      expect(await waiting()).to.deep.equal([])
    })
  })
}

describe('the store', () => {
  onBothStores(storeContract)

  it('in SQLite says which configuration key is wrong when the file cannot be opened', async () => {
    const error = await openSqliteStore('/dev/null/store.sqlite').catch((refusal: unknown) => refusal)
    expect(error).to.include({ code: 'configuration' })
    expect((error as Error).message).to.match(/store\.path: \/dev\/null/)
  })
})
