import { rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import type { Outcome } from '../../messages/bus.ts'
import type { EventBody } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { stepResults } from './step-results.ts'
import { mountAgent, openTestCoordinator, type TestCoordinator, targetAgent } from './test-coordinator.ts'

const OTHER_TARGET = { kind: 'target', name: 'db-8' } as const
const OTHER_MOUNT = { kind: 'mount', name: 'backup-2' } as const

/** The reason that stands in the dead letter. */
const reasonOf = (outcome: Outcome): string => (outcome === 'ack' ? 'accepted' : outcome.deadLetter)

describe('a report on a session', () => {
  let directory: string
  let store: Store
  let coordinator: TestCoordinator
  let session: string

  beforeEach(async () => {
    directory = await scratchDirectory('howdah-report-sender-')
    store = await openSqliteStore(path.join(directory, 'store.sqlite'))
    coordinator = await openTestCoordinator(store, { now: Date.parse('2026-11-22T06:00:00Z') })
    session = await coordinator.publish()
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
    await rm(directory, { recursive: true })
  })

  /** The session as it was, but for nothing: version and all. */
  const saved = async (): Promise<string> => JSON.stringify(await coordinator.session(session))
  const emitted = (): number => coordinator.bus.emitted.length

  async function expectRefusal(reporting: () => Promise<Outcome>, why: RegExp): Promise<void> {
    const before = await saved()
    const events = emitted()
    expect(reasonOf(await reporting())).to.match(why)
    expect(await saved()).to.equal(before)
    expect(emitted()).to.equal(events)
  }

  const usage = { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 }

  it('is refused from the target agent of another session, changes nothing, and reaches no client', async () => {
    const lost: EventBody<'session.lost'> = { session, what: 'postgres', reason: 'gone' }
    await expectRefusal(
      () => coordinator.report('session.lost', lost, OTHER_TARGET),
      /^unauthorized: session\.lost of session shop-1 comes from the target agent "db-8", and belongs to the target agent "db-7"$/,
    )
    await expectRefusal(
      () => coordinator.report('session.usage', { session, usage }, mountAgent),
      /^unauthorized/,
    )
    expect(reasonOf(await coordinator.report('session.usage', { session, usage }, targetAgent))).to.equal(
      'accepted',
    )
  })

  it('about a step is refused from any agent but the one that the step was sent to', async () => {
    await coordinator.command('session.unpublish', { session })
    const { step, sequence } = coordinator.lastStep().body
    const done = { session, step, sequence, direction: 'undo', result: { undone: [] } } as const
    for (const sender of [OTHER_TARGET, mountAgent, OTHER_MOUNT]) {
      await expectRefusal(() => coordinator.report('session.step-done', done, sender), /^unauthorized/)
    }
    expect(reasonOf(await coordinator.report('session.step-done', done, targetAgent))).to.equal('accepted')
  })

  it('about its backup is accepted from its mount agent, too, and from no other one', async () => {
    const findings = { session, warnings: ['the backup was deleted'] }
    await expectRefusal(() => coordinator.report('session.findings', findings, OTHER_MOUNT), /^unauthorized/)
    expect(reasonOf(await coordinator.report('session.findings', findings, mountAgent))).to.equal('accepted')
  })

  it('about a damaged block reaches the sessions that read the backup from that mount agent, and no others', async () => {
    const { backup } = stepResults.resolve
    const damage = {
      ...{ repository: 'main', instance: 'shop', backup: backup.label },
      ...{ file: 'data/base/5/16384', block: 2, what: 'its checksum is wrong' },
    }
    for (const sender of [OTHER_MOUNT, targetAgent, mountAgent]) {
      const before = emitted()
      await coordinator.report('repository.damage', damage, sender)
      const news = coordinator.bus.emitted.slice(before).map(({ type, body }) => ({ type, body }))
      const expected = sender === mountAgent ? [{ type: 'session.damage', body: { session, ...damage } }] : []
      expect(news).to.deep.equal(expected)
    }
  })

  it('is refused from the user of another agent, or of a client', async () => {
    const report = (userId: string) => () =>
      coordinator.report('session.usage', { session, usage }, targetAgent, userId)
    for (const user of ['howdah-target-db-8', 'howdah-mount-db-7', 'howdah-client-ops']) {
      await expectRefusal(report(user), new RegExp(`^unauthorized: .* comes from the user "${user}"`))
    }
    expect(reasonOf(await report('howdah-target-db-7')())).to.equal('accepted')
  })

  it('is accepted from a user that all processes share', async () => {
    const outcome = await coordinator.report('session.usage', { session, usage }, targetAgent, 'guest')
    expect(reasonOf(outcome)).to.equal('accepted')
  })

  it('is passed on to clients without the result of the step', async () => {
    const done = coordinator.bus.emitted.filter(({ type }) => type === 'session.step-done')
    expect(done.map(({ body }) => (body as { step: string }).step)).to.include.members(['resolve', 'mount'])
    expect(JSON.stringify(coordinator.bus.emitted)).not.to.include('ticket')
  })
})

describe('an agent', () => {
  let directory: string
  let store: Store
  let coordinator: TestCoordinator
  const enroll = { kind: 'target', name: targetAgent.name, instance: 'i-1' } as const

  beforeEach(async () => {
    directory = await scratchDirectory('howdah-report-sender-')
    store = await openSqliteStore(path.join(directory, 'store.sqlite'))
    coordinator = await openTestCoordinator(store, { now: Date.parse('2026-11-22T06:00:00Z') })
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
    await rm(directory, { recursive: true })
  })

  it('cannot send heartbeats as the user of another one', async () => {
    const outcome = await coordinator.report('agent.online', targetAgent, targetAgent, 'howdah-target-db-8')
    expect(reasonOf(outcome)).to.match(/^unauthorized/)
    expect(await store.agents()).to.deep.equal([])
  })

  it('that asks for its queue gets it, and learns who has its name', async () => {
    await coordinator.report('agent.online', { ...targetAgent, instance: 'i-0' })
    await coordinator.report('agent.enroll', enroll)
    expect(coordinator.bus.enrolled).to.deep.equal([{ kind: 'target', name: 'db-7' }])
    expect([...coordinator.bus.replies.values()]).to.deep.equal([
      { accepted: true, holder: { host: 'db-7.example', instance: 'i-0', silentMs: 0 } },
    ])
  })

  it('is told why its queue cannot be declared', async () => {
    const error = new HowdahError('configuration', 'it exists with other properties')
    coordinator.bus.enroll = async () => Promise.reject(error)
    expect(reasonOf(await coordinator.report('agent.enroll', enroll))).to.equal('accepted')
    const [reply] = coordinator.bus.replies.values()
    expect(reply).to.deep.include({ accepted: false })
    expect(JSON.stringify(reply)).to.include('it exists with other properties')
  })
})
