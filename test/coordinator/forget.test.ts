import { expect } from 'chai'
import type { Store } from '../../coordinator/store/store.ts'
import { onBothStores } from './stores.ts'
import {
  mountAgent,
  openTestCoordinator,
  type Reply,
  type TestClock,
  type TestCoordinator,
  targetAgent,
} from './test-coordinator.ts'

describe('what will never come back', () => onBothStores(forgetTests))

function forgetTests(openStore: () => Promise<Store>): void {
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

  const offline = ({ kind, name }: typeof mountAgent): Promise<unknown> =>
    coordinator.report('agent.offline', { kind, name })
  const forget = (session: string): Promise<Reply> => coordinator.command('session.forget', { session })
  const names = async (): Promise<string[]> => {
    const { agents } = (await coordinator.command('agent.list', {})) as { agents?: { name: string }[] }
    return (agents ?? []).map(({ name }) => name)
  }

  it('is no session whose target is connected', async () => {
    const session = await coordinator.publish()
    const { error } = await forget(session)
    expect(error).to.include({ code: 'agent_in_use' })
    expect(error?.message).to.include('howdah unpublish')
    expect(await coordinator.session(session)).to.include({ state: 'published' })
  })

  it('is a session whose target is gone: it is closed, says what was left, and takes no more room', async () => {
    const session = await coordinator.publish()
    await offline(targetAgent)
    await coordinator.command('session.unpublish', { session })
    expect(await coordinator.session(session)).to.include({ state: 'unpublishing' })
    expect(await forget(session)).to.deep.equal({ accepted: true, session })
    const forgotten = await coordinator.session(session)
    expect(forgotten).to.deep.include({ state: 'closed', begun: [] })
    expect(forgotten.warnings.at(-1)).to.match(/forgotten.* on target db-7/)
    expect(await store.sessionsOf(targetAgent)).to.deep.equal([])
    expect(await store.sessionsWithStep()).to.deep.equal([])
    expect(coordinator.bus.emitted.at(-1)?.body).to.include({ session, state: 'closed' })
  })

  it('is a closed session with kept changes, too', async () => {
    const session = await coordinator.publish()
    await coordinator.command('session.unpublish', { session, keepCache: true })
    while ((await coordinator.session(session)).state !== 'closed') await coordinator.finishStep()
    await offline(targetAgent)
    expect(await forget(session)).to.include({ accepted: true })
    expect(await store.sessions({ settled: false })).to.deep.equal([])
    expect((await coordinator.command('session.retry', { session })).error?.code).to.equal('session_state')
  })

  it('reports on a forgotten session change nothing', async () => {
    const session = await coordinator.publish()
    await coordinator.command('session.unpublish', { session })
    await offline(targetAgent)
    await forget(session)
    const before = await coordinator.session(session)
    expect(await coordinator.finishStep()).to.equal('ack')
    expect(await coordinator.session(session)).to.deep.equal(before)
  })

  it('is no agent that is connected or unknown', async () => {
    await coordinator.agentsOnline()
    const { error } = await coordinator.command('agent.forget', { kind: 'target', name: 'db-7' })
    expect(error).to.include({ code: 'agent_in_use' })
    const unknown = await coordinator.command('agent.forget', { kind: 'mount', name: 'db-7' })
    expect(unknown.error).to.include({ code: 'unknown_agent', field: 'name' })
    expect(await names()).to.have.members(['db-7', 'backup-1'])
  })

  it('is a target with its sessions, when the command says so', async () => {
    const session = await coordinator.publish()
    await offline(targetAgent)
    const body = { kind: 'target', name: 'db-7' } as const
    const { error } = await coordinator.command('agent.forget', body)
    expect(error).to.include({ code: 'agent_in_use' })
    expect(error?.message).to.include(session)
    const reply = await coordinator.command('agent.forget', { ...body, sessions: true }, 'f-1')
    expect(reply).to.deep.equal({ accepted: true, sessions: [session] })
    expect(await names()).to.deep.equal(['backup-1'])
    expect(await coordinator.session(session)).to.include({ state: 'closed' })
    expect(coordinator.bus.forgotten).to.deep.equal([body])
    expect(await coordinator.command('agent.forget', { ...body, sessions: true }, 'f-1')).to.deep.equal(reply)
  })

  it('is a mount agent that no session reads through', async () => {
    const session = await coordinator.publish()
    await offline(mountAgent)
    const body = { kind: 'mount', name: 'backup-1', sessions: true } as const
    expect((await coordinator.command('agent.forget', body)).error?.message).to.include(session)
    await coordinator.command('session.unpublish', { session })
    while ((await coordinator.session(session)).state !== 'closed') await coordinator.finishStep()
    expect(await coordinator.command('agent.forget', body)).to.include({ accepted: true })
    expect(await names()).to.deep.equal(['db-7'])
  })

  it('comes back all the same when it registers again', async () => {
    await coordinator.agentsOnline()
    await offline(targetAgent)
    await coordinator.command('agent.forget', { kind: 'target', name: 'db-7' })
    await coordinator.report('agent.online', targetAgent)
    expect(await names()).to.have.members(['db-7', 'backup-1'])
  })

  it('is forgotten by another coordinator on the same store, too', async () => {
    await coordinator.agentsOnline()
    await offline(targetAgent)
    const ownStore = await openStore()
    const other = await openTestCoordinator(ownStore, clock)
    try {
      await coordinator.command('agent.forget', { kind: 'target', name: 'db-7' })
      clock.now += 1
      await other.registry.refresh()
      expect(other.registry.list().map(({ name }) => name)).to.deep.equal(['backup-1'])
    } finally {
      await other.close()
      await ownStore.close()
    }
  })
}
