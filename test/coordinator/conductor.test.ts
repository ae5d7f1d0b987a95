import { expect } from 'chai'
import { newSession } from '../../coordinator/session.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { type Feature, neededVersion, OWN_RANGE } from '../../messages/contract-version.ts'
import { CONTRACT_VERSION } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { StepCommand } from '../../messages/steps.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import type { SentCommand } from './scripted-bus.ts'
import { stepResults } from './step-results.ts'
import { onBothStores } from './stores.ts'
import {
  mountAgent,
  openTestCoordinator,
  publishBody,
  type TestClock,
  type TestCoordinator,
  targetAgent,
  until,
} from './test-coordinator.ts'

const START = Date.parse('2026-11-22T06:00:00Z')

describe('the conductor', () => onBothStores(conductorTests))

function conductorTests(openStore: () => Promise<Store>): void {
  let clock: TestClock
  let coordinator: TestCoordinator
  let opened: (Store | TestCoordinator)[]

  beforeEach(async () => {
    clock = { now: START }
    opened = []
    coordinator = await open()
  })

  afterEach(async () => {
    for (const one of opened.reverse()) await one.close()
  })

  /** A coordinator with a connection of its own to the store of the test. */
  async function open(): Promise<TestCoordinator> {
    const store = await openStore()
    opened.push(store)
    const one = await openTestCoordinator(store, clock)
    opened.push(one)
    return one
  }

  /** A session whose step `resolve` was sent. */
  async function begin(): Promise<string> {
    await coordinator.agentsOnline()
    const { session = '' } = await coordinator.command('instance.publish', publishBody)
    return session
  }

  const states = ({ bus }: TestCoordinator): string[] =>
    bus.emitted.flatMap(({ type, body }) => (type === 'session.state' ? [body.state] : []))
  const warnings = ({ bus }: TestCoordinator): string[] =>
    bus.emitted.flatMap(({ type, body }) =>
      type === 'session.warning' ? [`${body.about} ${body.level}`] : [],
    )

  it('sends each step to its agent once the one before is done, and announces every state', async () => {
    await coordinator.publish()
    expect(
      coordinator.bus.sent.map(({ agent, body, messageId }) => `${agent.kind} ${body.step} ${messageId}`),
    ).to.deep.equal([
      'mount resolve shop-1.1',
      'target preflight shop-1.2',
      'target mount shop-1.3',
      'target recover shop-1.4',
    ])
    expect(states(coordinator)).to.deep.equal(['validating', 'mounting', 'recovering', 'published'])
  })

  it('undoes the steps in reverse order when a session is unpublished', async () => {
    const session = await coordinator.publish()
    await coordinator.command('session.unpublish', { session })
    for (let step = 0; step < 3; step++) await coordinator.finishStep()
    expect(coordinator.steps().slice(4)).to.deep.equal(['undo recover', 'undo mount', 'undo preflight'])
    expect(states(coordinator).slice(-2)).to.deep.equal(['unpublishing', 'closed'])
  })

  it('records commands and their outcomes in the history', async () => {
    const session = await coordinator.publish()
    const history = await coordinator.history(session)
    expect(history.map(({ number }) => number)).to.deep.equal(history.map((_, index) => index + 1))
    expect(history[0]).to.include({ type: 'command', text: 'publish shop of main' })
    expect(history.filter(({ status }) => status === 'done').map(({ step }) => step)).to.deep.equal([
      'resolve',
      'preflight',
      'mount',
      'recover',
    ])
  })

  it('sends a step that it could not send before at its next start', async () => {
    coordinator.bus.failure = new HowdahError('broker_unavailable', 'RabbitMQ cannot be reached')
    const session = await begin()
    expect((await coordinator.session(session)).current).to.include({ step: 'resolve', status: 'sent' })
    expect(coordinator.steps()).to.deep.equal([])
    await coordinator.close()
    const restarted = await open()
    restarted.conductor.start()
    await until('the step is sent', () => restarted.bus.sent.length > 0)
    expect(restarted.lastStep()).to.deep.include({ messageId: `${session}.1` })
  })

  it('plans the first step of a session in its first save, so that nothing is left to a second one', async () => {
    const away = async (): Promise<never> => {
      throw new Unavailable('no route to host')
    }
    const store = { ...(await openStore()), saveSession: away }
    opened.push(store)
    const cut = await openTestCoordinator(store, clock)
    await cut.agentsOnline()
    const { session = '' } = await cut.command('instance.publish', publishBody)
    await cut.close()
    expect((await coordinator.session(session)).current).to.include({ step: 'resolve', sequence: 1 })
  })

  it('takes up a session that nobody planned', async () => {
    await coordinator.agentsOnline()
    const store = await openStore()
    opened.push(store)
    const request = { ...publishBody, backup: 'latest', recoverTo: { type: 'latest' as const }, options: {} }
    const unplanned = newSession('shop-9', request, 'backup-1', new Date(clock.now).toISOString())
    await store.addSession(unplanned, { history: [] })
    coordinator.conductor.start()
    await until('its first step is sent', () => coordinator.bus.sent.length > 0)
    expect(coordinator.lastStep().body).to.include({ session: 'shop-9', step: 'resolve' })
  })

  it('reads no session in a sweep of which nothing is due', async () => {
    for (let one = 0; one < 3; one++) await coordinator.publish()
    await coordinator.close()
    const store = await openStore()
    opened.push(store)
    const read: string[] = []
    let sweeps = 0
    const counted: Store = {
      ...store,
      session(id) {
        read.push(id)
        return store.session(id)
      },
      dueSessions(now) {
        sweeps += 1
        return store.dueSessions(now)
      },
    }
    const other = await openTestCoordinator(counted, clock)
    other.conductor.start()
    await until('some sweeps are over', () => sweeps > 3)
    await other.close()
    expect(read).to.deep.equal([])
  })

  it('fails a step whose command can never be sent, with the reason', async () => {
    const message = 'step.run has 300000 bytes, at most 262144 are allowed'
    coordinator.bus.failure = new HowdahError('message_too_large', message)
    const session = await begin()
    await until('the publish fails', async () => (await coordinator.session(session)).state === 'failed')
    expect((await coordinator.session(session)).failure).to.deep.include({
      code: 'message_too_large',
      message,
    })
    const history = await coordinator.history(session)
    expect(history.find(({ status }) => status === 'failed')?.error?.message).to.equal(message)
  })

  it('sends a step that could not be sent for a passing reason again', async () => {
    coordinator.bus.failure = new HowdahError('unroutable', 'no queue took it')
    const session = await begin()
    coordinator.conductor.start()
    coordinator.bus.failure = undefined
    await coordinator.agentsOnline()
    clock.now += 20_001
    await until('the step is sent', () => coordinator.bus.sent.length > 0)
    expect((await coordinator.session(session)).failures).to.equal(0)
  })

  it('applies an outcome once, although it is reported twice', async () => {
    const session = await begin()
    const { body } = coordinator.lastStep()
    const failed = { session, step: body.step, direction: 'run' as const, sequence: body.sequence }
    const error = { code: 'repository_unavailable' as const, message: 'no route to host' }
    for (let time = 0; time < 2; time++) {
      expect(await coordinator.report('session.step-failed', { ...failed, error })).to.equal('ack')
    }
    expect(await coordinator.session(session)).to.include({ failures: 1 })
  })

  it('ignores the outcome of a step that a later command superseded', async () => {
    const session = await begin()
    await coordinator.finishStep()
    const { step, sequence } = coordinator.lastStep().body
    await coordinator.command('session.unpublish', { session })
    expect(coordinator.steps()).to.deep.equal(['run resolve', 'run preflight', 'undo preflight'])
    const before = await coordinator.session(session)
    const error = { code: 'port_taken' as const, message: 'port 5432 is in use' }
    await coordinator.report('session.step-failed', { session, step, direction: 'run', sequence, error })
    expect(await coordinator.session(session)).to.deep.equal(before)
  })

  it('dead-letters an outcome that does not have the shape of its step, and leaves the session as it was', async () => {
    const session = await begin()
    const before = await coordinator.session(session)
    expect(await coordinator.finishStep({ backup: 7 })).to.have.property('deadLetter')
    expect(await coordinator.session(session)).to.deep.equal(before)
  })

  it('acknowledges reports on sessions that no longer exist', async () => {
    const lost = { session: 'gone-abc234', what: 'mount', reason: 'killed' } as const
    expect(await coordinator.report('session.lost', lost)).to.equal('ack')
  })

  it('sends a step again when no report on it comes, with the same message id', async () => {
    await begin()
    coordinator.conductor.start()
    clock.now += 19_000
    await coordinator.agentsOnline()
    const already = coordinator.bus.sent.length
    clock.now += 1_001
    await until('the step is sent again', () => coordinator.bus.sent.length > already)
    expect(new Set(coordinator.bus.sent.map(({ messageId }) => messageId)).size).to.equal(1)
  })

  it('retries a step that failed for a transient reason, with growing delays, until its attempts are used up', async () => {
    const session = await begin()
    for (const delay of [20, 40]) {
      await coordinator.failStep('repository_unavailable')
      const { retryAt, state } = await coordinator.session(session)
      expect(Date.parse(retryAt ?? '') - clock.now).to.equal(delay)
      expect(state).to.equal('disrupted')
      const already = coordinator.bus.sent.length
      clock.now += delay
      await until('the step is retried', () => coordinator.bus.sent.length > already)
    }
    expect(coordinator.bus.sent.map(({ messageId }) => messageId)).to.deep.equal(
      [1, 2, 3].map((sequence) => `${session}.${sequence}`),
    )
    await coordinator.failStep('repository_unavailable')
    const failed = await coordinator.session(session)
    expect(failed).to.include({ state: 'failed' })
    expect(failed).not.to.have.property('retryAt')
  })

  it('resumes a published session that lost its mount, and never tears it down when that fails', async () => {
    const session = await coordinator.publish()
    await coordinator.report('session.lost', { session, what: 'mount', reason: 'killed' })
    const { step, input } = coordinator.lastStep().body
    expect([step, input.resumes]).to.deep.equal(['mount', true])
    await coordinator.failStep('postgres_failed')
    expect(await coordinator.session(session)).to.include({ state: 'disrupted', desired: 'published' })
  })

  it('warns before a session expires, and unpublishes it then', async () => {
    const session = await coordinator.publish()
    await coordinator.command('session.extend', { session, expiresIn: 100 })
    coordinator.conductor.start()
    clock.now += 80_000
    await until('a warning is announced', () => warnings(coordinator).includes('expiry low'))
    clock.now += 20_000
    await until('it is unpublished', () => coordinator.steps().at(-1) === 'undo recover')
    expect((await coordinator.session(session)).warnings.at(-1)).to.match(/expired at/)
  })

  it('shows a session as disrupted while the agent of its step is offline, until that reports again', async () => {
    const session = await begin()
    await coordinator.report('agent.offline', { kind: 'mount', name: mountAgent.name })
    coordinator.conductor.start()
    const state = async (): Promise<string> => (await coordinator.session(session)).state
    await until('the session is disrupted', async () => (await state()) === 'disrupted')
    expect((await coordinator.session(session)).error).to.include({ code: 'agent_offline' })
    await coordinator.report('agent.online', mountAgent)
    const { step, sequence } = coordinator.lastStep().body
    await coordinator.report('session.step-started', { session, step, direction: 'run', sequence })
    const resumed = await coordinator.session(session)
    expect(resumed).to.include({ state: 'validating' })
    expect(resumed).not.to.have.property('error')
  })

  it('sends the step again as soon as its agent is back, whether that reports or not', async () => {
    const session = await begin()
    await coordinator.report('agent.offline', { kind: 'mount', name: mountAgent.name })
    coordinator.conductor.start()
    const state = async (): Promise<string> => (await coordinator.session(session)).state
    await until('the session is disrupted', async () => (await state()) === 'disrupted')
    const already = coordinator.bus.sent.length
    clock.now += 120_000
    await coordinator.agentsOnline()
    await until('the step is sent again', () => coordinator.bus.sent.length > already)
    expect(coordinator.lastStep().messageId).to.equal(`${session}.1`)
    expect(await state()).to.equal('validating')
  })

  it('sends no step to an agent that is too old for it, says so, and goes on once that was upgraded', async () => {
    coordinator.conductor.start()
    const session = await begin()
    const { contract: _, ...old } = targetAgent
    await coordinator.report('agent.online', old)
    await coordinator.finishStep()
    await until('the session says so', async () => (await coordinator.session(session)).error !== undefined)
    expect(await coordinator.session(session)).to.deep.include({ state: 'disrupted' })
    const { error } = await coordinator.session(session)
    expect(error).to.include({ code: 'agent_incompatible' })
    expect(error?.message).to.match(/^the target agent "db-7" .* contract 1; this needs 2/)
    expect(coordinator.steps()).to.deep.equal(['run resolve'])
    await coordinator.report('agent.online', targetAgent)
    await until('the step is sent', () => coordinator.steps().length > 1)
    // A sweep may send it once more.
    expect([...new Set(coordinator.steps())]).to.deep.equal(['run resolve', 'run preflight'])
    await until('the error is gone', async () => (await coordinator.session(session)).error === undefined)
  })

  it('sends what only newer agents understand to those, and says by name which agent is too old for it', async () => {
    const onlyNewer = 'newer'
    const newer: Feature = {
      since: CONTRACT_VERSION + 1,
      used: (type, body) => type === 'step.run' && (body as StepCommand).input.options.user === onlyNewer,
    }
    const store = await openStore()
    opened.push(store)
    const mixed = await openTestCoordinator(store, clock, undefined, undefined, (type, body) =>
      neededVersion(type, body, [newer]),
    )
    opened.push(mixed)
    mixed.conductor.start()
    await mixed.agentsOnline()
    const contract = { ...OWN_RANGE, newest: CONTRACT_VERSION + 1 }
    await mixed.report('agent.online', { ...targetAgent, name: 'db-8', host: 'db-8.example', contract })
    await mixed.report('agent.online', { ...mountAgent, contract })
    const stepsOf = (id: string): string[] =>
      mixed.bus.sent.flatMap(({ body }) => (body.session === id ? [body.step] : []))
    const publish = async (target: string, options = {}): Promise<string> => {
      const { session = '' } = await mixed.command('instance.publish', { ...publishBody, target, ...options })
      const about = { session, step: 'resolve', direction: 'run', sequence: 1 } as const
      await mixed.report('session.step-done', { ...about, result: stepResults.resolve })
      return session
    }
    const tooOld = await publish('db-7', { user: onlyNewer })
    await until('the session says so', async () => (await mixed.session(tooOld)).error !== undefined)
    const { error } = await mixed.session(tooOld)
    expect(error).to.include({ code: 'agent_incompatible' })
    expect(error?.message).to.match(/^the target agent "db-7" on db-7\.example .* upgrade the agent$/)
    for (const session of [await publish('db-8', { user: onlyNewer }), await publish('db-7')]) {
      await until('its step is sent', () => stepsOf(session).includes('preflight'))
      expect((await mixed.session(session)).error).to.equal(undefined)
    }
    expect(stepsOf(tooOld)).not.to.include('preflight')
    await mixed.report('agent.online', { ...targetAgent, contract })
    await until('it is sent after the upgrade', () => stepsOf(tooOld).includes('preflight'))
  })

  it('refuses to publish on an agent that is too old', async () => {
    await coordinator.agentsOnline()
    const { contract: _, ...old } = targetAgent
    await coordinator.report('agent.online', old)
    const { accepted, error } = await coordinator.command('instance.publish', publishBody)
    expect({ accepted, code: error?.code }).to.deep.equal({ accepted: false, code: 'agent_incompatible' })
  })

  it('announces a warning once, however often it is reported', async () => {
    const session = await coordinator.publish()
    const already = warnings(coordinator).length
    const usage = {
      fetchedBytes: 0,
      totalBytes: 0,
      cacheBytes: 0,
      ...{ changedBytes: 81, quotaBytes: 100, freeBytes: 10_000, reserveBytes: 0 },
    }
    for (let time = 0; time < 2; time++) {
      await coordinator.report('session.findings', { session, warnings: ['a foreign server'] })
      await coordinator.report('session.usage', { session, usage })
    }
    expect(warnings(coordinator).slice(already)).to.deep.equal(['publish note', 'quota low'])
    expect(coordinator.bus.emitted.at(-1)?.body).to.deep.include({ usage })
  })

  it('sends nothing after it was closed', async () => {
    const session = await begin()
    coordinator.conductor.start()
    await coordinator.close()
    const already = coordinator.bus.sent.length
    await coordinator.failStep('repository_unavailable')
    clock.now += 1_000
    await coordinator.conductor.change(session, () => undefined)
    expect(coordinator.bus.sent.length).to.equal(already)
  })

  describe('with another coordinator on the same store', () => {
    let other: TestCoordinator

    beforeEach(async () => {
      other = await open()
    })

    it('loses no change when both change a session at the same time', async () => {
      const session = await begin()
      const found = Array.from({ length: 10 }, (_, index) => `warning ${index}`)
      await Promise.all(
        found.map((warning, index) =>
          [coordinator, other][index % 2]?.report('session.findings', { session, warnings: [warning] }),
        ),
      )
      expect((await coordinator.session(session)).warnings).to.have.members(found)
      const history = await coordinator.history(session)
      expect(history.map(({ number }) => number)).to.deep.equal(history.map((_, index) => index + 1))
    })

    it('continues a session of the other when the report arrives here', async () => {
      const session = await begin()
      const { step, sequence } = coordinator.lastStep().body
      await coordinator.close()
      const error = { code: 'repository_unavailable' as const, message: 'no route to host' }
      await other.report('session.step-failed', { session, step, direction: 'run', sequence, error })
      clock.now += 20
      await until('the other coordinator retries', () => other.bus.sent.length > 0)
      await other.finishStep()
      expect(other.steps()).to.deep.equal(['run resolve', 'run preflight'])
    })

    it('takes over a retry that the other had scheduled before it ended', async () => {
      other.conductor.start()
      await begin()
      await coordinator.failStep('repository_unavailable')
      await coordinator.close()
      clock.now += 20
      const isRetry = ({ body }: SentCommand): boolean => body.step === 'resolve' && body.sequence === 2
      await until('the step is retried', () => other.bus.sent.some(isRetry))
    })

    it('knows the agents that the other saw', async () => {
      await coordinator.report('agent.online', targetAgent)
      other.conductor.start()
      await until('it knows the target', async () => {
        const { agents } = (await other.command('agent.list', {})) as { agents?: { name: string }[] }
        return agents?.some(({ name }) => name === targetAgent.name) === true
      })
    })
  })
}
