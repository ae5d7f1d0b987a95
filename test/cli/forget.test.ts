import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import { createFakeBus, type FakeBus, sessionView } from './fake-bus.ts'
import { run } from './run.ts'

const ID = 'main-k3x9qf'
const agent = { lastSeen: '2025-11-22T06:00:00Z', version: '0.1.0', host: 'a.example', online: false }

describe('howdah forget', () => {
  let bus: FakeBus

  /** Each run closes its bus. */
  function prepare(): FakeBus {
    bus = createFakeBus({
      'agent.list': () => ({
        accepted: true,
        agents: [
          { kind: 'target', name: 'db-7', ...agent },
          { kind: 'target', name: 'both', ...agent },
          { kind: 'mount', name: 'both', ...agent },
          { kind: 'mount', name: 'main', ...agent },
        ],
      }),
      'session.show': ({ session }) =>
        session === ID
          ? { accepted: true, session: sessionView({ id: ID }) }
          : { accepted: false, error: { code: 'unknown_session', message: 'there is none' } },
      'session.list': ({ session = '' }) => ({
        accepted: true,
        sessions: ID.startsWith(session) ? [sessionView({ id: ID })] : [],
        more: false,
      }),
      'session.forget': ({ session }) => ({ accepted: true, session }),
      'agent.forget': ({ sessions }) => ({ accepted: true, sessions: sessions ? [ID] : [] }),
    })
    return bus
  }

  beforeEach(prepare)

  const sent = <T extends 'session.forget' | 'agent.forget'>(type: T): CommandBody<T>[] =>
    bus.requests.filter((one) => one.type === type).map(({ body }) => body as CommandBody<T>)

  it('asks, and forgets a session by the beginning of its id', async () => {
    const { status, stdout } = run(['forget', 'main-k3'], { bus, answers: [true] })
    expect(await status).to.equal(0)
    expect(sent('session.forget')).to.deep.equal([{ session: ID }])
    expect(stdout()).to.equal(`session ${ID} is forgotten\n`)
  })

  it('forgets nothing when the answer is no', async () => {
    const { status, stderr } = run(['forget', 'main-k3'], { bus, answers: [false] })
    expect(await status).to.equal(1)
    expect(stderr()).to.include('nothing was forgotten')
    expect(sent('session.forget')).to.deep.equal([])
  })

  it('forgets nothing without a terminal, unless --yes is given', async () => {
    const refused = run(['forget', 'db-7'], { bus })
    expect(await refused.status).not.to.equal(0)
    expect(refused.stderr()).to.include('--yes')
    expect(sent('agent.forget')).to.deep.equal([])
    const { status } = run(['forget', 'db-7', '--yes', '--message-id', 'f-1'], { bus: prepare() })
    expect(await status).to.equal(0)
    expect(sent('agent.forget')).to.deep.equal([{ kind: 'target', name: 'db-7' }])
    expect(bus.requests.at(-1)?.messageId).to.equal('f-1')
  })

  it('forgets a target with its sessions', async () => {
    const { status, stdout } = run(['forget', 'target.db-7', '--sessions', '--yes'], { bus })
    expect(await status).to.equal(0)
    expect(sent('agent.forget')).to.deep.equal([{ kind: 'target', name: 'db-7', sessions: true }])
    expect(stdout()).to.include('1 session')
  })

  it('asks for more when several have that name', async () => {
    const agents = run(['forget', 'both', '--yes'], { bus })
    expect(await agents.status).not.to.equal(0)
    expect(agents.stderr()).to.include('target.both').and.to.include('mount.both')
    const mixed = run(['forget', 'main', '--yes'], { bus: prepare() })
    expect(await mixed.status).not.to.equal(0)
    expect(mixed.stderr()).to.include(ID).and.to.include('mount.main')
    expect(await run(['forget', 'mount.main', '--yes'], { bus: prepare() }).status).to.equal(0)
    expect(sent('agent.forget')).to.deep.equal([{ kind: 'mount', name: 'main' }])
  })

  it('says that there is neither', async () => {
    const { status, stderr } = run(['forget', 'nobody', '--yes'], { bus })
    expect(await status).to.equal(1)
    expect(stderr()).to.include('nobody')
  })

  it('prints the reply as JSON', async () => {
    const { status, stdout } = run(['forget', ID, '--yes', '--json'], { bus })
    expect(await status).to.equal(0)
    expect(JSON.parse(stdout())).to.deep.equal({ accepted: true, session: ID })
  })
})
