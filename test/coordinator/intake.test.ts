import { expect } from 'chai'
import type { Store } from '../../coordinator/store/store.ts'
import type { CheckReport, CommandBody } from '../../messages/definitions.ts'
import type { HistoryEntry, RepositoryInventory } from '../../messages/values.ts'
import { onBothStores } from './stores.ts'
import {
  mountAgent,
  openTestCoordinator,
  publishBody,
  type Reply,
  type TestClock,
  type TestCoordinator,
  targetAgent,
} from './test-coordinator.ts'

const exportRequest = { destination: { type: 'directory', path: '/srv/out' } } as const

describe('the intake', () => onBothStores(intakeTests))

function intakeTests(openStore: () => Promise<Store>): void {
  let clock: TestClock
  let store: Store
  let coordinator: TestCoordinator

  beforeEach(async () => {
    clock = { now: Date.parse('2026-11-22T06:00:00Z') }
    store = await openStore()
    coordinator = await openTestCoordinator(store, clock)
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
  })

  const publish = (body: Partial<CommandBody<'instance.publish'>> = {}, messageId?: string): Promise<Reply> =>
    coordinator.command('instance.publish', { ...publishBody, ...body }, messageId)

  const ids = async (): Promise<string[]> =>
    (await store.sessions({ settled: true })).map(({ id }) => id).sort()

  /** Unpublishes to the end. */
  async function close(session: string, keepCache = false): Promise<void> {
    await coordinator.command('session.unpublish', { session, keepCache })
    while ((await coordinator.session(session)).state !== 'closed') await coordinator.finishStep()
  }

  describe('answers a command', () => {
    it('to publish with a new session, and sends its first step', async () => {
      await coordinator.agentsOnline()
      expect(await publish({ expiresIn: 60, port: 5433 })).to.deep.equal({
        accepted: true,
        session: 'shop-1',
      })
      const { request, expires, mountAgent: serving } = await coordinator.session('shop-1')
      expect(request).to.deep.equal({
        ...publishBody,
        backup: 'latest',
        recoverTo: { type: 'latest' },
        options: { port: 5433 },
      })
      expect(expires?.at).to.equal('2026-11-22T06:01:00.000Z')
      expect(serving).to.equal(mountAgent.name)
      expect(coordinator.steps()).to.deep.equal(['run resolve'])
    })

    it('that is sent again with the first answer, and does nothing more', async () => {
      await coordinator.agentsOnline()
      const answer = await publish({}, 'same')
      expect(await publish({}, 'same')).to.deep.equal(answer)
      expect(await ids()).to.deep.equal(['shop-1'])
    })

    it('to export that is sent again with the id of the first export', async () => {
      const session = await coordinator.publish()
      const body = { session, ...exportRequest }
      const answer = await coordinator.command('session.export', body, 'same')
      expect(answer).to.include({ export: 'e1' })
      expect(await coordinator.command('session.export', body, 'same')).to.deep.equal(answer)
      expect((await coordinator.session(session)).exports).to.have.length(1)
    })

    it('that arrives twice at once with one session', async () => {
      await coordinator.agentsOnline()
      const answers = await Promise.all([publish({}, 'same'), publish({}, 'same')])
      expect(answers[0]).to.deep.equal(answers[1])
      expect(await ids()).to.have.length(1)
    })

    it('that arrives at two coordinators at once with one session', async () => {
      const ownStore = await openStore()
      const other = await openTestCoordinator(ownStore, clock)
      try {
        for (const one of [coordinator, other]) await one.agentsOnline()
        const answers = await Promise.all([
          publish({}, 'same'),
          other.command('instance.publish', publishBody, 'same'),
        ])
        expect(answers[0]).to.deep.equal(answers[1])
        expect(await ids()).to.have.length(1)
      } finally {
        await other.close()
        await ownStore.close()
      }
    })

    it('that was refused with the same refusal, unless it is sent with a new message id', async () => {
      const refusal = await publish({}, 'same')
      expect(refusal.error).to.include({ code: 'unknown_repository', field: 'repository' })
      await coordinator.agentsOnline()
      expect(await publish({}, 'same')).to.deep.equal(refusal)
      expect(await publish({}, 'new')).to.include({ accepted: true })
    })

    it('that is a query anew each time', async () => {
      const sessions = async (): Promise<number> => {
        const reply = await coordinator.command('session.list', {}, 'same')
        return (reply as { sessions?: object[] }).sessions?.length ?? 0
      }
      expect(await sessions()).to.equal(0)
      await coordinator.publish()
      expect(await sessions()).to.equal(1)
    })
  })

  it('does not answer while the store is unavailable, so that the command is redelivered', async () => {
    const away = async (): Promise<never> => {
      throw new Error('the connection is gone')
    }
    const cut = await openTestCoordinator({ ...store, answer: away }, clock)
    const failure = await cut.command('session.retry', { session: 'shop-1' }, 'same').catch((error) => error)
    expect(failure).to.be.an('error')
    expect(cut.bus.replies.size).to.equal(0)
    await cut.close()
  })

  describe('refuses', () => {
    const code = ({ error }: Reply): string | undefined => error?.code

    it('every command for an unknown session', async () => {
      const session = 'gone-abc234'
      const replies = [
        await coordinator.command('session.show', { session }),
        await coordinator.command('session.republish', { session }),
        await coordinator.command('session.unpublish', { session }),
        await coordinator.command('session.retry', { session }),
        await coordinator.command('session.cancel', { session }),
        await coordinator.command('session.promote', { session }),
        await coordinator.command('session.advance', { session, recoverTo: { type: 'immediate' } }),
        await coordinator.command('session.export', { session, ...exportRequest }),
        await coordinator.command('session.extend', { session, expiresIn: 60 }),
      ]
      expect(new Set(replies.map(code))).to.deep.equal(new Set(['unknown_session']))
    })

    it('what the state of the session does not allow, and leaves the session unchanged', async () => {
      const session = await coordinator.publish()
      const before = await coordinator.session(session)
      expect(code(await coordinator.command('session.promote', { session }))).to.equal('session_state')
      expect(code(await coordinator.command('session.cancel', { session }))).to.equal('session_state')
      expect(await coordinator.session(session)).to.deep.equal(before)
    })

    it('a recovery target without the value that it needs', async () => {
      await coordinator.agentsOnline()
      const { error } = await publish({ recoverTo: { type: 'lsn' } })
      expect(error).to.include({ code: 'invalid_message', field: 'recoverTo.value' })
      expect(await ids()).to.deep.equal([])
    })

    it('an unknown target, and one that is offline', async () => {
      await coordinator.agentsOnline()
      expect(code(await publish({ target: 'db-8' }))).to.equal('unknown_target')
      await coordinator.report('agent.offline', { kind: 'target', name: targetAgent.name })
      expect(code(await publish())).to.equal('agent_offline')
    })

    it('more sessions than the target takes, until one is closed', async () => {
      const session = await coordinator.publish()
      await coordinator.report('agent.online', { ...targetAgent, limits: { sessions: 1, cacheBytes: null } })
      expect((await publish()).error).to.include({ code: 'limit_reached', field: 'target' })
      await close(session)
      expect(await publish()).to.include({ accepted: true })
    })

    it('another session while the write caches of the target are at their limit, kept ones included', async () => {
      const session = await coordinator.publish()
      const usage = { fetchedBytes: 0, totalBytes: 0, cacheBytes: 1000 }
      await coordinator.report('session.usage', { session, usage })
      await close(session, true)
      await coordinator.report('agent.online', {
        ...targetAgent,
        limits: { sessions: null, cacheBytes: 1000 },
      })
      expect(code(await publish())).to.equal('limit_reached')
    })
  })

  describe('unpublishes unless there are changes', () => {
    let session: string
    const unpublish = (body: Partial<CommandBody<'session.unpublish'>> = {}): Promise<Reply> =>
      coordinator.command('session.unpublish', { session, unlessChanged: true, ...body })

    beforeEach(async () => {
      session = await coordinator.publish()
      coordinator.bus.answers['session.changes'] = () => ({
        accepted: true,
        changes: { changed: true, databases: ['shop', 'app'] },
      })
    })

    it('and names their databases', async () => {
      const { error } = await unpublish()
      expect(error).to.include({ code: 'changes_unexported', field: 'unlessChanged', retryable: false })
      expect(error?.message).to.include('in shop, app')
      expect((await coordinator.session(session)).desired).to.equal('published')
    })

    it('that are known to be none', async () => {
      coordinator.bus.answers['session.changes'] = () => ({
        accepted: true,
        changes: { changed: false, databases: [] },
      })
      expect(await unpublish()).to.include({ accepted: true })
    })

    it('and not while its target cannot say, which a retry can mend', async () => {
      delete coordinator.bus.answers['session.changes']
      const { error } = await unpublish()
      expect(error).to.include({ code: 'changes_unexported', retryable: true })
      expect(error?.message).to.include('not known')
    })

    it('without asking when they are kept, or when it has ended already', async () => {
      coordinator.bus.answers['session.changes'] = () => {
        throw new Error('the target was asked')
      }
      expect(await unpublish({ keepCache: true })).to.include({ accepted: true })
      const ended = await coordinator.publish()
      await close(ended)
      expect(await unpublish({ session: ended })).to.include({ accepted: true })
    })
  })

  describe('republishes', () => {
    let session: string
    let changed: boolean

    beforeEach(async () => {
      session = await coordinator.publish()
      changed = true
      coordinator.bus.answers['session.changes'] = () => ({
        accepted: true,
        changes: { changed, databases: changed ? ['shop'] : [], at: '2026-11-22T06:00:00.000Z' },
      })
    })

    const republish = (body: Partial<CommandBody<'session.republish'>> = {}): Promise<Reply> =>
      coordinator.command('session.republish', { session, ...body })

    it('in place only without unexported changes', async () => {
      const { error } = await republish()
      expect(error).to.include({ code: 'changes_unexported', field: 'discardChanges' })
      expect(error?.message).to.include('in shop')
      changed = false
      expect(await republish({ recoverTo: { type: 'immediate' } })).to.deep.equal({
        accepted: true,
        session,
        after: 4,
      })
      expect(coordinator.steps().at(-1)).to.equal('undo recover')
    })

    it('in place without asking for changes when they are to be discarded', async () => {
      coordinator.bus.answers['session.changes'] = () => {
        throw new Error('the target was asked')
      }
      expect(await republish({ discardChanges: true })).to.include({ accepted: true })
    })

    it('not while its target cannot report whether there are changes', async () => {
      delete coordinator.bus.answers['session.changes']
      expect((await republish()).error).to.include({ code: 'timeout' })
    })

    it('not over the kept changes of a closed session', async () => {
      await close(session, true)
      expect((await republish()).error).to.include({ code: 'changes_unexported' })
    })

    it('alongside as another session, on another port', async () => {
      expect(await republish({ alongside: true })).to.deep.equal({ accepted: true, session: 'shop-2' })
      expect((await coordinator.session('shop-2')).request.options).not.to.have.property('port')
      await republish({ alongside: true, port: 5433 })
      expect((await coordinator.session('shop-3')).request.options).to.include({ port: 5433 })
      expect((await republish({ port: 5433 })).error).to.include({ code: 'invalid_message', field: 'port' })
    })
  })

  it('gives each export an id, and unpublishes a session that was published for its export', async () => {
    await coordinator.agentsOnline()
    const { session = '' } = await publish({ export: exportRequest })
    while (coordinator.steps().at(-1) !== 'run export') await coordinator.finishStep()
    const more = await coordinator.command('session.export', { session, ...exportRequest })
    expect(more).to.include({ accepted: true, export: 'e2' })
    await coordinator.finishStep({ databases: [{ database: 'shop', status: 'done' }] })
    expect(coordinator.steps().at(-1)).to.equal('undo recover')
  })

  it('shows a session with its history, and lists settled sessions only on request', async () => {
    const session = await coordinator.publish()
    await close(session)
    const listed = async (all: boolean): Promise<(string | undefined)[]> => {
      const { sessions } = (await coordinator.command('session.list', { all })) as { sessions?: Reply[] }
      return sessions?.map((one) => (one as { id?: string }).id) ?? []
    }
    expect(await listed(false)).to.deep.equal([])
    expect(await listed(true)).to.deep.equal([session])
    const shown = (await coordinator.command('session.show', { session })) as object as {
      session: { state: string; history: HistoryEntry[] }
    }
    expect(shown.session.state).to.equal('closed')
    expect(shown.session.history.map(({ text }) => text)).to.include.members(['unpublish', 'closed'])
    const followed = (await coordinator.command('session.show', { session, history: false })) as object as {
      session: object
    }
    expect(followed.session).to.include({ state: 'closed' }).and.not.have.property('history')
  })

  it('lists the repositories of every mount agent, with an error for one that does not answer', async () => {
    const silent = {
      ...mountAgent,
      name: 'backup-2',
      repositories: [{ name: 'spare', format: 'barman' }],
    } as const
    await coordinator.agentsOnline()
    await coordinator.report('agent.online', { ...silent, repositories: [...silent.repositories] })
    coordinator.bus.answers['repository.list'] = (_, { name }) => {
      if (name === silent.name) throw new Error('no answer')
      return {
        accepted: true,
        repositories: [{ repository: 'main', format: 'pgbackrest', mountAgent: name, instances: [] }],
      }
    }
    const listed = async (body: CommandBody<'inventory.list'>): Promise<RepositoryInventory[]> => {
      const reply = await coordinator.command('inventory.list', body)
      return (reply as { repositories?: RepositoryInventory[] }).repositories ?? []
    }
    const all = await listed({})
    expect(all.map(({ repository }) => repository)).to.deep.equal(['main', 'spare'])
    expect(all.map(({ error }) => error?.code)).to.deep.equal([undefined, 'operation_failed'])
    expect((await listed({ repository: 'main' })).map(({ mountAgent: name }) => name)).to.deep.equal([
      'backup-1',
    ])
    const { error } = await coordinator.command('inventory.list', { repository: 'mian' })
    expect(error).to.include({ code: 'unknown_repository' })
  })

  it('checks a publish with both agents, and reports one that does not answer as a finding', async () => {
    await coordinator.agentsOnline()
    const finding = { level: 'error', code: 'port_taken', message: 'port 5433 is in use' } as const
    coordinator.bus.answers['target.check'] = () => ({
      accepted: true,
      findings: [finding],
      estimate: { freeBytes: 1 },
    })
    const reply = await coordinator.command('instance.check', { ...publishBody, port: 5433 })
    const { report } = reply as { report?: CheckReport }
    expect(report?.findings.map(({ code }) => code)).to.deep.equal(['timeout', 'port_taken'])
    expect(report?.estimate).to.deep.equal({ freeBytes: 1 })
    expect(await ids()).to.deep.equal([])
  })
}
