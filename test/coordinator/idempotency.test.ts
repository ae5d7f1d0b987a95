import { expect } from 'chai'
import type { Store } from '../../coordinator/store/store.ts'
import type { CommandBody } from '../../messages/definitions.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { onBothStores } from './stores.ts'
import {
  openTestCoordinator,
  publishBody,
  type Reply,
  type TestClock,
  type TestCoordinator,
  targetAgent,
  until,
} from './test-coordinator.ts'

const exportRequest = { destination: { type: 'directory', path: '/srv/out' } } as const

describe('a command that comes again', () => onBothStores(idempotencyTests))

function idempotencyTests(openStore: () => Promise<Store>): void {
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

  const exportsOf = async (session: string): Promise<number> =>
    (await coordinator.session(session)).exports?.length ?? 0

  it('with another body is refused, and nothing is done', async () => {
    const session = await coordinator.publish()
    await coordinator.command('session.extend', { session, expiresIn: 60 }, 'job-1')
    const before = await coordinator.session(session)
    const { error } = await coordinator.command('session.extend', { session, expiresIn: 120 }, 'job-1')
    expect(error).to.include({ code: 'invalid_message', field: 'message_id' })
    expect(error?.message).to.include('another body')
    expect(await coordinator.session(session)).to.deep.equal(before)
  })

  it('is one entry of the audit stream, and each refusal that is no answer another', async () => {
    const asked = (id: string) => coordinator.command('instance.publish', publishBody, id)
    await coordinator.command('session.retry', { session: 'main-none' }, 'job-0')
    await coordinator.agentsOnline()
    const { session = '' } = await asked('job-1')
    await asked('job-1')
    clock.now += 60_000
    await asked('job-2')
    await asked('job-2')
    await coordinator.command('session.retry', { session }, 'job-1')
    const commands = (await store.auditEntries(100)).flatMap(({ entry: { type, body } }) =>
      type === 'audit.command' ? [[body.command, body.outcome, body.error?.code]] : [],
    )
    expect(commands).to.deep.equal([
      ['session.retry', 'refused', 'unknown_session'],
      ['instance.publish', 'accepted', undefined],
      ['instance.publish', 'refused', 'agent_offline'],
      ['instance.publish', 'refused', 'agent_offline'],
      ['session.retry', 'refused', 'invalid_message'],
    ])
  })

  it('as another type is refused, and nothing is done', async () => {
    await coordinator.agentsOnline()
    const { session = '' } = await coordinator.command('instance.publish', publishBody, 'job-1')
    const { error } = await coordinator.command('session.unpublish', { session }, 'job-1')
    expect(error).to.include({ code: 'invalid_message', field: 'message_id' })
    expect(error?.message).to.include('instance.publish')
    expect(await coordinator.session(session)).to.include({ desired: 'published' })
  })

  it('keeps its first answer although its message id was used for another command since', async () => {
    await coordinator.agentsOnline()
    const first = await coordinator.command('instance.publish', publishBody, 'job-1')
    await coordinator.command('session.unpublish', { session: first.session ?? '' }, 'job-1')
    expect(await coordinator.command('instance.publish', publishBody, 'job-1')).to.deep.equal(first)
  })

  it('from another sender is another command', async () => {
    await coordinator.agentsOnline()
    const replies = [
      await coordinator.command('instance.publish', publishBody, 'job-1', 'backup-software'),
      await coordinator.command('instance.publish', publishBody, 'job-1', 'operator'),
      await coordinator.command('instance.publish', publishBody, 'job-1', 'backup-software'),
    ]
    expect(replies.map(({ session }) => session)).to.deep.equal(['shop-1', 'shop-2', 'shop-1'])
  })

  it('with the keys of its body in another order is the same command', async () => {
    await coordinator.agentsOnline()
    const settings = { work_mem: '8MB', jit: 'off' }
    const first = await coordinator.command('instance.publish', { ...publishBody, settings }, 'job-1')
    const other = { jit: 'off', work_mem: '8MB' }
    const again = await coordinator.command('instance.publish', { ...publishBody, settings: other }, 'job-1')
    expect(again).to.deep.equal(first)
  })

  it('while the first is under way waits for its answer, and does nothing more', async () => {
    const session = await coordinator.publish()
    const body = { session, ...exportRequest }
    const replies = await Promise.all([1, 2, 3].map(() => coordinator.command('session.export', body, 'x-1')))
    for (const reply of replies)
      expect(reply).to.deep.equal({ accepted: true, session, after: 4, export: 'e1' })
    expect(await exportsOf(session)).to.equal(1)
  })

  it('to two coordinators at once is carried out once, with one answer', async () => {
    const session = await coordinator.publish()
    const ownStore = await openStore()
    const other = await openTestCoordinator(ownStore, clock)
    try {
      const body = { session, ...exportRequest }
      const replies = await Promise.all(
        [coordinator, other, coordinator, other].map((one) => one.command('session.export', body, 'x-1')),
      )
      for (const reply of replies) expect(reply).to.deep.equal(replies[0])
      expect(await exportsOf(session)).to.equal(1)
    } finally {
      await other.close()
      await ownStore.close()
    }
  })

  it('while a republish still asks its target for changes republishes once', async () => {
    const session = await coordinator.publish()
    let asked = 0
    coordinator.bus.answers['session.changes'] = () => {
      asked += 1
      return { accepted: true, changes: { changed: false, databases: [] } }
    }
    const again = (): Promise<Reply> => coordinator.command('session.republish', { session }, 'r-1')
    const replies = await Promise.all([again(), again()])
    expect(replies[0]).to.deep.equal({ accepted: true, session, after: 4 })
    expect(replies[1]).to.deep.equal(replies[0])
    expect(asked).to.equal(1)
    while ((await coordinator.session(session)).state !== 'published') await coordinator.finishStep()
    expect(await again()).to.deep.equal(replies[0])
    expect(await coordinator.session(session)).to.include({ state: 'published', desired: 'published' })
  })

  it('because its change was saved and its answer not sent gets the whole answer', async () => {
    const session = await coordinator.publish()
    const cut = await openTestCoordinator(
      {
        ...store,
        async saveSession(...args) {
          await store.saveSession(...args)
          throw new Unavailable('the connection broke after COMMIT was sent')
        },
      },
      clock,
    )
    const body = { session, ...exportRequest }
    const failed = await cut.command('session.export', body, 'x-1').catch((error: Error) => error)
    expect(failed).to.be.instanceOf(Unavailable)
    await cut.close()
    expect(await coordinator.command('session.export', body, 'x-1')).to.deep.equal({
      accepted: true,
      session,
      after: 4,
      export: 'e1',
    })
    expect(await exportsOf(session)).to.equal(1)
  })

  it('because its change could not be saved is carried out then', async () => {
    const session = await coordinator.publish()
    const away = async (): Promise<never> => {
      throw new Unavailable('no route to host')
    }
    const cut = await openTestCoordinator({ ...store, saveSession: away }, clock)
    const body = { session, ...exportRequest }
    await cut.command('session.export', body, 'x-1').catch(() => undefined)
    await cut.close()
    expect(await exportsOf(session)).to.equal(0)
    expect(await coordinator.command('session.export', body, 'x-1')).to.include({ export: 'e1' })
  })

  it('after a refusal that a retry can mend is carried out', async () => {
    await coordinator.agentsOnline()
    await coordinator.report('agent.offline', { kind: 'target', name: targetAgent.name })
    const publish = (): Promise<Reply> => coordinator.command('instance.publish', publishBody, 'job-1')
    expect((await publish()).error).to.include({ code: 'agent_offline' })
    await coordinator.report('agent.online', targetAgent)
    expect(await publish()).to.include({ accepted: true })
  })

  it('after a republish whose target did not answer is carried out', async () => {
    const session = await coordinator.publish()
    const again = (): Promise<Reply> => coordinator.command('session.republish', { session }, 'r-1')
    expect((await again()).error).to.include({ code: 'timeout' })
    const changes = { changed: false, databases: [] }
    coordinator.bus.answers['session.changes'] = () => ({ accepted: true, changes })
    expect(await again()).to.include({ accepted: true })
  })

  it('of which nothing is left but its refusal gets that again', async () => {
    const session = await coordinator.publish()
    const promote = (): Promise<Reply> => coordinator.command('session.promote', { session }, 'p-1')
    const refusal = await promote()
    expect(refusal.error).to.include({ code: 'session_state' })
    expect(await promote()).to.deep.equal(refusal)
  })
}

describe('the limit of sessions of a target', () => onBothStores(limitTests))

function limitTests(openStore: () => Promise<Store>): void {
  it('holds for commands that come at once, to two coordinators', async () => {
    const clock = { now: Date.parse('2026-11-22T06:00:00Z') }
    const stores = [await openStore(), await openStore()]
    const coordinators = await Promise.all(stores.map((store) => openTestCoordinator(store, clock)))
    try {
      for (const one of coordinators) {
        await one.agentsOnline()
        await one.report('agent.online', { ...targetAgent, limits: { sessions: 2, cacheBytes: null } })
      }
      const publish = (index: number): Promise<Reply> => {
        const body: CommandBody<'instance.publish'> = { ...publishBody, instance: `shop${index}` }
        return (coordinators[index % 2] as TestCoordinator).command(
          'instance.publish',
          body,
          `burst-${index}`,
        )
      }
      const replies = await Promise.all(Array.from({ length: 10 }, (_, index) => publish(index)))
      expect(replies.filter(({ accepted }) => accepted)).to.have.length(2)
      expect(new Set(replies.map(({ error }) => error?.code))).to.deep.equal(
        new Set([undefined, 'limit_reached']),
      )
      await until('both are sent', () => coordinators.flatMap((one) => one.steps()).length === 2)
    } finally {
      await Promise.all(coordinators.map((one) => one.close()))
      await Promise.all(stores.map((store) => store.close()))
    }
  })
}
