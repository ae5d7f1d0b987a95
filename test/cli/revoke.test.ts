import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import { createFakeBus, type FakeBus } from './fake-bus.ts'
import { run } from './run.ts'

const agent = { lastSeen: '2025-11-22T06:00:00Z', version: '0.1.0', host: 'a.example', online: true }

describe('howdah agent revoke', () => {
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
        ],
      }),
      'agent.revoke': () => ({ accepted: true, sessions: ['main-k3x9qf', 'main-k3x9qg'] }),
    })
    return bus
  }

  const sent = (): CommandBody<'agent.revoke'>[] =>
    bus.requests.filter(({ type }) => type === 'agent.revoke').map(({ body }) => body as never)

  it('asks, finds the kind of the agent, and says how many sessions are disrupted', async () => {
    const { status, stdout } = run(['agent', 'revoke', 'db-7'], { bus: prepare(), answers: [true] })
    expect(await status).to.equal(0)
    expect(sent()).to.deep.equal([{ kind: 'target', name: 'db-7' }])
    expect(stdout()).to.equal('the target agent db-7 is revoked; 2 sessions disrupted\n')
  })

  it('revokes nothing when the answer is no, nor without a terminal unless --yes is given', async () => {
    expect(await run(['agent', 'revoke', 'db-7'], { bus: prepare(), answers: [false] }).status).to.equal(1)
    expect(sent()).to.deep.equal([])
    const refused = run(['agent', 'revoke', 'db-7'], { bus: prepare() })
    expect(await refused.status).to.equal(1)
    expect(refused.stderr()).to.include('--yes')
    expect(sent()).to.deep.equal([])
  })

  it('needs --kind where there is one of each, and for one that never registered', async () => {
    const both = run(['agent', 'revoke', 'both', '--yes'], { bus: prepare() })
    expect(await both.status).to.equal(1)
    expect(both.stderr()).to.include('--kind')
    const unknown = run(['agent', 'revoke', 'db-9', '--yes'], { bus: prepare() })
    expect(await unknown.status).to.equal(1)
    expect(unknown.stderr()).to.include('no agent "db-9" ever registered')
    const given = ['agent', 'revoke', 'db-9', '--kind', 'target', '--yes']
    expect(await run(given, { bus: prepare() }).status).to.equal(0)
    expect(sent()).to.deep.equal([{ kind: 'target', name: 'db-9' }])
  })
})

describe('howdah agents', () => {
  it('lists the certificates that expire within 14 days, and who was revoked', async () => {
    const certificate = (user: string, notAfter: string) => ({ certificate: { user, notAfter } })
    const bus = createFakeBus({
      'agent.list': () => ({
        accepted: true,
        agents: [
          {
            kind: 'target',
            name: 'db-7',
            ...agent,
            ...certificate('howdah-target-db-7', '2099-01-01T00:00:00Z'),
          },
          {
            kind: 'target',
            name: 'db-8',
            ...agent,
            ...certificate('howdah-target-db-8', '2025-11-30T06:00:00Z'),
          },
          {
            kind: 'mount',
            name: 'b-1',
            ...agent,
            ...certificate('howdah-mount-b-1', '2025-11-20T06:00:00Z'),
          },
          { kind: 'target', name: 'db-9', ...agent, online: false, revoked: true },
        ],
      }),
    })
    const { status, stdout } = run(['agents'], { bus })
    expect(await status).to.equal(0)
    const text = stdout()
    expect(text).to.match(/target +db-9 +revoked/)
    const [, listed = ''] = text.split('Certificates that are not renewed')
    expect(listed).to.include('target agent db-8: expires in').and.include('mount agent b-1: expired')
    expect(listed).not.to.include('db-7')
  })
})
