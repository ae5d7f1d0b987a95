/** Which broker `howdah up` uses, and whose sessions it ends. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { openSessions } from '../../coordinator/cli/up/own-sessions.ts'
import { roleEnvironment, writeRoleFiles } from '../../coordinator/cli/up/role-files.ts'
import type { AgentView } from '../../messages/values.ts'
import { createFakeBus, sessionView } from './fake-bus.ts'
import { run } from './run.ts'

describe('howdah up, its broker', () => {
  const env = {
    HOWDAH_BROKER_URL: 'amqps://ops:hunter2@prod.example/howdah',
    HOWDAH_STATE: '/dev/null/howdah',
  }

  it('is never the one of the environment, which may be that of a whole fleet', async () => {
    const { status, stdout, stderr } = run(['up', '--unpublish-on-exit', '--json'], { env })
    expect(await status).to.equal(2)
    expect(JSON.parse(stdout()).error).to.include({ code: 'usage' })
    expect(stderr()).to.include('HOWDAH_BROKER_URL is set').and.to.include('--broker URL or --config FILE')
    expect(stdout() + stderr()).not.to.include('hunter2')
  })

  it('can be named by a flag or by a configuration file nevertheless', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'howdah-up-'))
    const file = path.join(directory, 'broker.json')
    writeFileSync(file, JSON.stringify({ broker: { url: 'amqp://u:hunter2@127.0.0.1:1' } }))
    try {
      for (const flags of [
        ['--broker', 'amqp://u:hunter2@127.0.0.1:1'],
        ['--config', file],
      ]) {
        const { status, stdout, stderr } = run(['up', ...flags, '--json'], { env })
        // It goes on to its state directory, which cannot be made.
        expect(await status).to.equal(1)
        expect(JSON.parse(stdout()).error).to.include({ code: 'path_unsafe' })
        expect(stdout() + stderr()).not.to.include('hunter2')
      }
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('is wrong usage if the configuration file names none', async () => {
    const { status, stdout } = run(['up', '--config', '/dev/null/none.json', '--json'], { env })
    expect(await status).to.equal(2)
    expect(JSON.parse(stdout()).error).to.include({ code: 'configuration' })
  })

  it('reaches the roles by their files only, with its TLS files', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'howdah-up-'))
    try {
      mkdirSync(path.join(directory, 'config'))
      const certificate = { ca: '/ca', cert: '/cert', key: '/key' }
      const files = writeRoleFiles({
        stateDirectory: directory,
        broker: { urls: ['amqps://a', 'amqps://b'], ca: '/broker-ca', certificate: null, key: null },
        ...{ repositories: [], dataPlanePort: 7420, postgresUser: undefined, isPrivate: false },
        ...{ mountCertificate: certificate, targetCertificate: certificate },
      })
      for (const file of Object.values(files)) {
        const { broker, allow } = JSON.parse(readFileSync(file, 'utf8'))
        expect(broker).to.deep.include({ urls: ['amqps://a', 'amqps://b'], ca: '/broker-ca' })
        // Whoever may use a shared broker gets no further on this machine than by default.
        expect(allow).to.equal(undefined)
      }
    } finally {
      rmSync(directory, { recursive: true })
    }
    expect(roleEnvironment({ ...env, HOWDAH_BROKER_CA: '/x', HOWDAH_MOUNT_ROOT: '/m' })).to.deep.equal({
      HOWDAH_MOUNT_ROOT: '/m',
    })
  })
})

describe('howdah up, the sessions that --unpublish-on-exit ends', () => {
  const agent = (name: string, host: string): AgentView => ({
    ...{ kind: 'target', name, host, online: true, lastSeen: '2025-11-22T06:30:00.000Z', version: '1' },
  })
  const sessions = [
    sessionView({ id: 'own-aaaaaa', target: 'local', state: 'published' }),
    sessionView({ id: 'own-bbbbbb', target: 'local', state: 'failed' }),
    sessionView({ id: 'prod-cccccc', target: 'db-7', state: 'published' }),
  ]
  const busWith = (...agents: AgentView[]) =>
    createFakeBus({
      'agent.list': () => ({ accepted: true, agents }),
      'session.list': () => ({ accepted: true, sessions, more: false }),
    })
  const never = new AbortController().signal

  it('are the open ones of its own target, not of others on the same broker', async () => {
    const bus = busWith(agent('local', hostname()), agent('db-7', 'elsewhere'))
    expect(await openSessions(bus, never)).to.deep.equal(['own-aaaaaa'])
    expect(bus.requests.at(-1)?.body).to.deep.include({ target: 'local' })
  })

  it('are none while the target of that name is another machine', async () => {
    expect(await openSessions(busWith(agent('local', 'elsewhere')), never)).to.deep.equal([])
  })
})
