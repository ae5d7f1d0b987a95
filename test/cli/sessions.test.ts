import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import { createFakeBus, type FakeBus, sessionView } from './fake-bus.ts'
import { run } from './run.ts'

const COUNT = 1203
const ALL = Array.from({ length: COUNT }, (_, index) => sessionView({ id: `main-${index}` }))

describe('howdah sessions', () => {
  let bus: FakeBus

  beforeEach(() => {
    bus = createFakeBus({
      'session.list': ({ limit = 100, cursor = '0' }) => {
        const end = Number(cursor) + limit
        const more = end < COUNT
        return {
          ...{ accepted: true, sessions: ALL.slice(Number(cursor), end), more },
          ...(more && { cursor: String(end) }),
          ...(cursor === '0' && { targets: [{ target: 'db-7', sessions: COUNT, cacheBytes: 0 }] }),
        }
      },
      'agent.list': () => ({
        accepted: true,
        agents: [
          {
            ...{ kind: 'target', name: 'db-7', online: true, version: '1', host: 'db-7' },
            lastSeen: '2025-11-22T06:33:10.000Z',
          },
        ],
      }),
    })
  })

  const asked = (): CommandBody<'session.list'>[] =>
    bus.requests.filter(({ type }) => type === 'session.list').map(({ body }) => body as never)

  async function listed(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = run(['sessions', ...args], { bus })
    expect(await status, stderr()).to.equal(0)
    return stdout()
  }

  it('shows the newest, says that there are more, and counts those of a target by what the coordinator knows', async () => {
    const text = await listed()
    expect(text.match(/^main-/gm)).to.have.length(100)
    expect(text).to.include('There are more; these are the newest 100.')
    expect(text).to.match(/target db-7 +1203 sessions/)
    expect(asked()).to.deep.equal([{ limit: 100 }])
  })

  it('shows as many as are asked for, in as many requests as they need', async () => {
    const { sessions, more } = JSON.parse(await listed('--json', '--limit', '620'))
    expect([sessions.length, more]).to.deep.equal([620, true])
    expect(asked().map(({ limit }) => limit)).to.deep.equal([500, 120])
  })

  it('--all shows all of them', async () => {
    const { sessions, more } = JSON.parse(await listed('--json', '--all'))
    expect([sessions.length, more]).to.deep.equal([COUNT, false])
    expect(asked().every(({ all }) => all === true)).to.equal(true)
  })

  it('asks for what its filters describe', async () => {
    await listed(
      ...['--target', 'db-7', '--repository', 'prod', '--instance', 'main', '--reference', 'job 1'],
      ...['--label', 'team=billing', '--label', 'empty=', '--in-state', 'failed', '--in-state', 'disrupted'],
      ...['--since', '2d', '--until', '2025-11-22T07:30:00+01:00'],
    )
    expect(asked()[0]).to.deep.equal({
      ...{ target: 'db-7', repository: 'prod', instance: 'main', reference: 'job 1', limit: 100 },
      labels: { team: 'billing', empty: '' },
      state: ['failed', 'disrupted'],
      since: '2025-11-20T06:33:10.000Z',
      until: '2025-11-22T07:30:00+01:00',
    })
  })

  for (const args of [
    ['--label', 'team'],
    ['--label', '-x=1'],
    ['--in-state', 'happy'],
    ['--since', 'yesterday'],
    ['--limit', '0'],
    ['--reference', ''],
  ]) {
    it(`refuses ${args.join(' ')}`, async () => {
      const { status } = run(['sessions', ...args], { bus })
      expect(await status).to.equal(2)
      expect(asked()).to.deep.equal([])
    })
  }
})

describe('a verb that changes a session', () => {
  const view = sessionView({ state: 'published' })
  const labels = { team: 'billing', 'a.b/c': 'x=y' }
  const tags = ['--reference', 'job 1', '--label', 'team=billing', '--label', 'a.b/c=x=y']
  const verbs: readonly (readonly [string, ...string[]])[] = [
    ['publish', '--repository', 'prod', '--instance', 'main', '--target', 'db-7', '--no-wait'],
    [
      'rescue',
      ...'--repository prod --instance main --target db-7 --database app --to /srv'.split(' '),
      '--no-wait',
    ],
    ['republish', view.id, '--no-wait'],
    ['unpublish', view.id, '--no-wait'],
    ['export', view.id, '--to', '/srv', '--no-wait'],
    ['extend', view.id, '4h'],
    ['retry', view.id, '--no-wait'],
    ['promote', view.id, '--no-wait'],
    ['advance', view.id, '--recover-to', 'latest', '--no-wait'],
    ['cancel', view.id, '--no-wait'],
  ]
  for (const [verb, ...args] of verbs) {
    it(`sends the reference and labels that it is given: ${verb}`, async () => {
      const accepted = () => ({ accepted: true as const, session: view.id })
      const bus = createFakeBus({
        ...{ 'instance.publish': accepted, 'session.republish': accepted, 'session.unpublish': accepted },
        ...{ 'session.extend': accepted, 'session.retry': accepted, 'session.promote': accepted },
        ...{ 'session.advance': accepted, 'session.cancel': accepted },
        'session.export': () => ({ ...accepted(), export: 'e1' }),
        'session.show': () => ({ accepted: true, session: view }),
      })
      const { status, stderr } = run([verb, ...args, ...tags], { bus })
      expect(await status, stderr()).to.equal(0)
      const sent = bus.requests.filter(({ type }) => type !== 'session.show')
      expect(sent.map(({ body }) => body)).to.have.length(1)
      expect(sent[0]?.body).to.deep.include({ reference: 'job 1', labels })
    })
  }
})
