import { expect } from 'chai'
import type { Store } from '../../coordinator/store/store.ts'
import { COMMANDS, type CommandBody } from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'
import { onBothStores } from './stores.ts'
import { openTestCoordinator, publishBody, type TestCoordinator } from './test-coordinator.ts'

describe('reference and labels of a session', () => {
  onBothStores(tagTests)

  const body = COMMANDS['instance.publish'].body
  const sixteen = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [`key-${index}`, 'value']))

  it('may be as large as the contract says, and no larger', () => {
    const accepts = (tags: object): boolean => body.safeParse({ ...publishBody, ...tags }).success
    expect(accepts({ reference: 'é'.repeat(128), labels: { ...sixteen } })).to.equal(true)
    expect(accepts({ labels: { [`k${'x'.repeat(62)}`]: 'v'.repeat(255) } })).to.equal(true)
    expect(accepts({ reference: 'x'.repeat(129) })).to.equal(false)
    expect(accepts({ reference: '' })).to.equal(false)
    expect(accepts({ reference: 'a\nb' })).to.equal(false)
    expect(accepts({ labels: { ...sixteen, more: '1' } })).to.equal(false)
    expect(accepts({ labels: { [`k${'x'.repeat(63)}`]: 'v' } })).to.equal(false)
    expect(accepts({ labels: { key: 'v'.repeat(256) } })).to.equal(false)
    expect(accepts({ labels: { '-': 'v' } })).to.equal(false)
    expect(accepts({ labels: { key: 7 } })).to.equal(false)
  })
})

function tagTests(openStore: () => Promise<Store>): void {
  let store: Store
  let coordinator: TestCoordinator

  beforeEach(async () => {
    store = await openStore()
    coordinator = await openTestCoordinator(store, { now: Date.parse('2026-11-22T06:00:00Z') })
    await coordinator.agentsOnline()
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
  })

  async function shown(session: string): Promise<SessionView> {
    const reply = await coordinator.command('session.show', { session })
    return (reply as unknown as { session: SessionView }).session
  }

  it('are those of the command that made it, with its message_id', async () => {
    const tags = { reference: 'job 4711', labels: { team: 'billing', 'howdah.example/env': 'test' } }
    const { session = '' } = await coordinator.command(
      'instance.publish',
      { ...publishBody, ...tags },
      'made-by',
    )
    expect(await shown(session)).to.deep.include({ ...tags, messageId: 'made-by' })
  })

  it('are absent from a session that got none', async () => {
    const { session = '' } = await coordinator.command('instance.publish', publishBody)
    expect(await shown(session)).not.to.have.any.keys('reference', 'labels')
  })

  it('are changed by each command that changes the session: labels are added, and removed by an empty value', async () => {
    const session = await coordinator.publish()
    const destination = { type: 'directory', path: '/srv/out' } as const
    await coordinator.command('session.extend', {
      session,
      expiresIn: 60,
      labels: { owner: 'ann', team: 'a' },
    })
    await coordinator.command('session.export', { session, destination, reference: 'export 1' })
    expect(await shown(session)).to.deep.include({
      reference: 'export 1',
      labels: { owner: 'ann', team: 'a' },
    })
    await coordinator.command('session.unpublish', { session, labels: { owner: '', team: 'b' } })
    expect(await shown(session)).to.deep.include({ reference: 'export 1', labels: { team: 'b' } })
  })

  it('are not changed by a command that is refused, and one that leads to too many labels is refused', async () => {
    const session = await coordinator.publish()
    const labels = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [`key-${index}`, 'value']))
    await coordinator.command('session.extend', { session, expiresIn: 60, labels })
    const promoted = await coordinator.command('session.promote', { session, reference: 'refused' })
    expect(promoted.error).to.include({ code: 'session_state' })
    const extended = await coordinator.command('session.extend', {
      ...{ session, expiresIn: 3600, labels: { one: 'more' } },
    })
    expect(extended.error).to.include({ code: 'invalid_message', field: 'labels' })
    const view = await shown(session)
    expect(view.labels).to.deep.equal(labels)
    expect(view).not.to.have.property('reference')
    expect(view.expiresAt).to.equal('2026-11-22T06:01:00.000Z')
  })

  it('of a republish in place stay, and one alongside has its own', async () => {
    const session = await coordinator.publish()
    await coordinator.command('session.extend', { session, expiresIn: null, reference: 'first' })
    const again: CommandBody<'session.republish'> = { session, discardChanges: true }
    await coordinator.command('session.republish', again)
    expect(await shown(session)).to.include({ reference: 'first' })
    const beside = await coordinator.command('session.republish', {
      ...{ session, alongside: true, reference: 'second' },
    })
    expect(await shown(beside.session ?? '')).to.include({ reference: 'second' })
  })
}
