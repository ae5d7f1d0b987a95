/** `howdah watch` after a reconnect: it says that events may have been missed, and catches up by asking. */
import { expect } from 'chai'
import { brokerBlocked } from '../../messages/broker-alarm.ts'
import type { SessionView } from '../../messages/values.ts'
import { createFakeBus, type FakeBus, sessionView, stateEvent } from './fake-bus.ts'
import { NOW, run, until } from './run.ts'

const LATER = new Date(NOW.getTime() + 1000).toISOString()

const documents = (text: string): { type: string; body: Partial<SessionView> }[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

describe('howdah watch, after a reconnect', () => {
  let views: SessionView[]
  let bus: FakeBus

  beforeEach(() => {
    views = [
      sessionView({ id: 'main-aaaaaa', state: 'published' }),
      sessionView({ id: 'main-bbbbbb', state: 'mounting' }),
    ]
    bus = createFakeBus({
      'session.list': () => ({ accepted: true, sessions: views, more: false }),
      'session.show': ({ session }) => {
        const view = views.find(({ id }) => id === session)
        if (view === undefined) throw new Error(`no session ${session}`)
        return { accepted: true, session: view }
      },
    })
  })

  const lists = () => bus.requests.filter(({ type }) => type === 'session.list').length

  function missThreeChanges(): void {
    views = [
      sessionView({ id: 'main-cccccc', state: 'failed', updatedAt: LATER }),
      sessionView({ id: 'main-aaaaaa', state: 'published' }),
      sessionView({ id: 'main-bbbbbb', state: 'closed' }),
    ]
    bus.reconnect()
  }

  it('says so once, and shows each session whose state is another', async () => {
    const running = run(['watch'], { bus })
    await until(() => lists() === 1, 'the sessions were listed at the start')
    missThreeChanges()
    await until(() => running.stdout().includes('main-cccccc'), 'it has caught up')
    running.interrupt()
    await running.status
    expect(running.stdout()).to.match(/main-bbbbbb +closed\n.*main-cccccc +failed\n$/)
    expect(running.stdout()).not.to.include('main-aaaaaa')
    expect(running.stderr().match(/may be missing/g)).to.have.length(1)
  })

  it('says so as JSON, and prints each session whose state is another', async () => {
    const running = run(['watch', '--json'], { bus })
    await until(() => lists() === 1, 'the sessions were listed at the start')
    bus.deliver('session.state', stateEvent('main-bbbbbb', 'closed'))
    missThreeChanges()
    await until(() => running.stdout().includes('main-cccccc'), 'it has caught up')
    running.interrupt()
    await running.status
    const [, missed, ...shown] = documents(running.stdout())
    expect(missed).to.deep.include({ type: 'watch.missed', body: { since: NOW.toISOString() } })
    // What an event had told is not repeated. The last line is the interruption.
    expect(shown.slice(0, -1).map(({ type, body }) => [type, body.id])).to.deep.equal([
      ['session.show', 'main-cccccc'],
    ])
  })

  it('of one session prints what the coordinator says then', async () => {
    const running = run(['watch', 'main-bbbbbb', '--json'], { bus })
    await until(() => running.stdout() !== '', 'the first snapshot is printed')
    missThreeChanges()
    expect(await running.status).to.equal(0)
    const shown = documents(running.stdout())
    expect(shown.map(({ type }) => type)).to.deep.equal([
      ...['session.show', 'watch.missed', 'session.show', 'session.show'],
    ])
    expect(shown.at(-1)?.body.state).to.equal('closed')
  })

  it('says what it could not ask', async () => {
    const running = run(['watch'], { bus })
    await until(() => lists() === 1, 'the sessions were listed at the start')
    views = undefined as unknown as SessionView[]
    bus.reconnect()
    await until(() => running.stderr().includes('is not known'), 'the failure is told')
    running.interrupt()
    expect(await running.status).to.equal(130)
  })
})

describe('howdah watch, while RabbitMQ takes no messages', () => {
  it('says so, and watches on', async () => {
    const bus = createFakeBus({
      'session.list': () => {
        throw brokerBlocked('low on disk')
      },
    })
    const running = run(['watch'], { bus })
    await until(() => running.stderr().includes('takes no messages: disk alarm'), 'it says so')
    bus.deliver('session.lost', { session: 'main-bbbbbb', what: 'mount', reason: 'killed' })
    await until(() => running.stdout().includes('main-bbbbbb'), 'the event is shown')
    running.interrupt()
    expect(await running.status).to.equal(130)
  })
})
