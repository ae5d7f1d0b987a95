import { expect } from 'chai'
import { pino } from 'pino'
import { type Announcement, announcementsOf } from '../../coordinator/announcements.ts'
import { createBackgroundWork } from '../../coordinator/conductor/background-work.ts'
import { createOutbox, type Outbox } from '../../coordinator/conductor/outbox.ts'
import { newSession, type Session } from '../../coordinator/session.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { HowdahError } from '../../messages/errors.ts'
import { createScriptedBus, type ScriptedBus } from './scripted-bus.ts'
import { stepResults } from './step-results.ts'
import { newAnswer } from './store-values.ts'
import { onBothStores } from './stores.ts'
import { openTestCoordinator, publishBody, type TestCoordinator, until } from './test-coordinator.ts'

const AWAY = new HowdahError('broker_unavailable', 'RabbitMQ cannot be reached')
const FUTURE = new Date('2100-01-01')

describe('what a session announces', () => onBothStores(outboxTests))

function outboxTests(openStore: () => Promise<Store>): void {
  let store: Store
  let opened: { close(): unknown }[]

  beforeEach(async () => {
    store = await openStore()
    opened = [store]
  })

  afterEach(async () => {
    for (const one of opened.reverse()) await one.close()
  })

  async function coordinator(): Promise<TestCoordinator> {
    const one = await openTestCoordinator(store, { now: Date.parse('2026-11-22T06:00:00Z') })
    opened.push(one)
    return one
  }

  const states = ({ bus }: { bus: ScriptedBus }) =>
    bus.emitted.flatMap(({ type, body }) => (type === 'session.state' ? [body] : []))

  it('has the version of the session, the time, where it is, and how to connect to it once it is published', async () => {
    const one = await coordinator()
    await one.agentsOnline()
    const tags = { reference: 'job 1', labels: { team: 'billing' } }
    const { session = '' } = await one.command('instance.publish', { ...publishBody, ...tags })
    while ((await one.session(session)).state !== 'published') await one.finishStep()
    await until('all states are announced', () => states(one).length === 4)
    const announced = states(one)
    const place = { repository: 'main', instance: 'shop', target: 'db-7' }
    for (const body of announced) expect(body).to.deep.include({ session, ...tags, ...place })
    expect(announced[0]?.version).to.equal(0)
    const versions = announced.map(({ version }) => version)
    expect(versions).to.deep.equal([...new Set(versions)].sort((a, b) => a - b))
    expect(announced.map(({ connection }) => connection)).to.deep.equal([
      ...[undefined, undefined, undefined],
      stepResults.recover.connection,
    ])
    for (const { body } of one.bus.emitted) expect(body).to.deep.include({ session, ...tags })
    const note = one.bus.emitted.find(({ type }) => type === 'session.warning')
    expect(note?.body).to.deep.include({ session, version: announced.at(-1)?.version, ...tags })
  })

  it('is announced after a restart, in order, when the coordinator died before it could be', async () => {
    const first = await coordinator()
    first.bus.failure = AWAY
    await first.agentsOnline()
    const { session } = await first.command('instance.publish', publishBody)
    // Nothing of this process is used from here on: it is as if it had been killed.
    const second = await coordinator()
    second.conductor.start()
    await until('the state is announced', () => states(second).length > 0)
    expect(states(second)[0]).to.include({ session, state: 'validating', version: 0 })
    expect(second.bus.emitted[0]?.messageId).to.equal(`${session}.v0.0`)
    expect(first.bus.emitted).to.deep.equal([])
  })

  it('is announced once the broker is back, in order, and then forgotten', async () => {
    const one = await coordinator()
    await one.agentsOnline()
    const { session = '' } = await one.command('instance.publish', publishBody)
    await until('the first state is announced', () => states(one).length === 1)
    const { step, sequence } = one.lastStep().body
    one.bus.failure = AWAY
    const done = { session, step, direction: 'run' as const, sequence, result: stepResults.resolve }
    await one.report('session.step-done', done)
    await one.command('session.unpublish', { session })
    expect(states(one)).to.have.length(1)
    one.bus.failure = undefined
    await until('the other states are announced', () => states(one).length === 2)
    expect(states(one).map(({ state }) => state)).to.deep.equal(['validating', 'unpublishing'])
    await until('the store has none left', async () => (await store.announcements(FUTURE)).length === 0)
  })

  it('is announced once per change, with an id of its own', async () => {
    const one = await coordinator()
    one.conductor.start()
    await one.publish()
    await until('all states are announced', () => states(one).length === 4)
    const announced = one.bus.emitted.filter(
      ({ type }) => type === 'session.state' || type === 'session.warning',
    )
    const ids = announced.map(({ messageId }) => messageId)
    expect(ids).not.to.include(undefined)
    expect(new Set(ids).size).to.equal(ids.length)
  })

  describe('to an outbox', () => {
    let bus: ScriptedBus
    let outbox: Outbox

    beforeEach(() => {
      bus = createScriptedBus()
      outbox = open(bus)
    })

    afterEach(() => outbox.close())

    function open(to: Pick<ScriptedBus, 'emit'>): Outbox {
      const logger = pino({ level: 'silent' })
      const made = createOutbox({
        store,
        bus: to,
        logger,
        background: createBackgroundWork(logger),
        lookMs: 50,
      })
      opened.push(made)
      return made
    }

    /** Saves a session with warnings, as a change of it does. */
    async function saved(id: string, warnings: readonly string[]): Promise<Announcement[]> {
      const session: Session = {
        ...newSession(
          id,
          { ...publishBody, backup: 'latest', recoverTo: { type: 'latest' }, options: {} },
          'b',
          NOW,
        ),
        warnings: [...warnings],
      }
      const announcements = announcementsOf(undefined, session, session.version)
      await store.addSession(session, { history: [], answer: newAnswer(id, {}), announcements })
      return announcements
    }
    const NOW = '2026-11-22T06:00:00.000Z'
    const texts = (): string[] =>
      bus.emitted.map(({ type, body }) => (type === 'session.warning' ? body.message : type))

    it('is published in the order in which it was saved, one of a session at a time', async () => {
      const announcements = await saved('shop-1', ['one', 'two', 'three'])
      let running = 0
      const slow = open({
        async emit(type, body, options) {
          running += 1
          expect(running).to.equal(1)
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 10))
          running -= 1
          await bus.emit(type, body, options)
        },
      })
      slow.publish(announcements)
      await until('all are published', () => bus.emitted.length === 4)
      expect(texts()).to.deep.equal(['one', 'two', 'three', 'session.state'])
      slow.close()
    })

    it('does not wait for another session whose announcements cannot be published', async () => {
      const stuck = await saved('shop-1', ['one'])
      const others = await saved('shop-2', ['two'])
      const half = open({
        async emit(type, body, options) {
          if ('session' in body && body.session === 'shop-1') throw AWAY
          await bus.emit(type, body, options)
        },
      })
      half.publish([...stuck, ...others])
      await until('the other is published', () => bus.emitted.length === 2)
      half.close()
    })

    it('is left out when the contract can never allow it, and holds up nothing', async () => {
      const announcements = await saved('shop-1', ['one'])
      let refused = 0
      const strict = open({
        async emit(type, body, options) {
          refused += 1
          if (refused === 1) throw new HowdahError('message_too_large', 'too large')
          await bus.emit(type, body, options)
        },
      })
      strict.publish(announcements)
      await until('the next is published', () => bus.emitted.length === 1)
      await until('none is left', async () => (await store.announcements(FUTURE)).length === 0)
      strict.close()
    })

    it('is found in the store when another process saved it and ended', async () => {
      outbox.start()
      await saved('shop-1', ['one'])
      await until('all are published', () => bus.emitted.length === 2)
      expect(texts()).to.deep.equal(['one', 'session.state'])
    })
  })
}
