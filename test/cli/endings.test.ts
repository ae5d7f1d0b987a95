/** How a verb ends: exit status, --timeout, and the document of every failure. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { exitStatusOf } from '../../coordinator/cli/interruption.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { createFakeBus, type FakeBus, sessionView, stateEvent } from './fake-bus.ts'
import { run, until } from './run.ts'

const LAUNCHER = path.resolve(import.meta.dirname, '../../bin/howdah')
const SOURCE = ['--repository', 'prod', '--instance', 'main', '--target', 'local']
const ID = 'main-x7f3k2'

/** Every verb that changes something, with the arguments that it needs. */
const COMMANDS: readonly (readonly [verb: string, args: readonly string[]])[] = [
  ['publish', SOURCE],
  ['rescue', [...SOURCE, '--database', 'app', '--to', '/srv/rescue']],
  ['republish', [ID]],
  ['promote', [ID]],
  ['advance', [ID, '--recover-to', 'latest']],
  ['retry', [ID]],
  ['cancel', [ID]],
  ['extend', [ID, '4h']],
  ['unpublish', [ID]],
  ['export', [ID, '--to', '/srv/rescue']],
  ['forget', [ID, '--yes']],
]
const QUERIES: typeof COMMANDS = [
  ['agents', []],
  ['backups', []],
  ['sessions', []],
  ['show', [ID]],
  ['watch', [ID]],
  ['check', SOURCE],
  ['doctor', ['--target', 'db-7']],
]

const documentOf = (text: string) => JSON.parse(text.trimEnd().split('\n').at(-1) ?? '')

describe('a verb whose broker does not answer', function () {
  this.timeout(30_000)
  let silent: Server
  let url: string

  before(async () => {
    silent = createServer(() => {})
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    url = `amqp://127.0.0.1:${(silent.address() as AddressInfo).port}`
  })
  after(() => {
    silent.close()
  })

  async function start(args: readonly string[]) {
    const connected = once(silent, 'connection')
    const child = spawn(LAUNCHER, [...args, '--json', '--broker', url], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    const ended = once(child, 'close')
    const [socket] = await connected
    return { child, ended, stdout: () => stdout, close: () => socket.destroy() }
  }

  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) {
    for (const args of [['sessions'], ['watch'], ['publish', ...SOURCE]]) {
      it(`${args[0]} ends with ${exitStatusOf(signal)} on ${signal}, and says so as JSON`, async () => {
        const { child, ended, stdout, close } = await start(args)
        child.kill(signal)
        expect(await ended).to.deep.equal([exitStatusOf(signal), null])
        expect(documentOf(stdout()).error).to.deep.equal({
          code: 'interrupted',
          message: `stopped by ${signal}`,
          retryable: true,
        })
        close()
      })
    }
  }

  it('is that of --config, whatever the environment names', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'howdah-endings-'))
    const file = path.join(directory, 'client.json')
    writeFileSync(file, JSON.stringify({ broker: { url } }))
    try {
      const connected = once(silent, 'connection')
      const child = spawn(LAUNCHER, ['sessions', '--config', file], {
        cwd: '/',
        env: { ...process.env, HOWDAH_BROKER_URL: 'amqp://127.0.0.1:1' },
        stdio: 'ignore',
      })
      const ended = once(child, 'close')
      const [socket] = await connected
      child.kill()
      await ended
      socket.destroy()
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it('ends after --timeout with 1, and says so as JSON', async () => {
    const { ended, stdout, close } = await start(['sessions', '--timeout', '0.3'])
    expect(await ended).to.deep.equal([1, null])
    expect(documentOf(stdout()).error).to.include({ code: 'timeout' })
    close()
  })
})

it('the numbers of the exit status are those of signal(7)', () => {
  expect((['SIGHUP', 'SIGINT', 'SIGPIPE', 'SIGTERM'] as const).map(exitStatusOf)).to.deep.equal([
    129, 130, 141, 143,
  ])
})

describe('a verb that fails', () => {
  const refusal = { accepted: false as const, error: { code: 'agent_offline' as const, message: 'away' } }
  const types = [
    ...([
      'instance.publish',
      'session.republish',
      'session.promote',
      'session.advance',
      'session.retry',
    ] as const),
    ...(['session.cancel', 'session.extend', 'session.unpublish', 'session.export', 'session.list'] as const),
    ...(['session.show', 'inventory.list', 'target.doctor', 'agent.list', 'instance.check'] as const),
  ]

  for (const [verb, args] of [...COMMANDS, ...QUERIES]) {
    it(`${verb} prints the refusal as {"error": …}`, async () => {
      const bus = createFakeBus(Object.fromEntries(types.map((type) => [type, () => refusal])))
      const { status, stdout } = run([verb, ...args, '--json'], { bus })
      expect(await status).to.equal(1)
      expect(documentOf(stdout()).error).to.include(refusal.error)
    })

    it(`${verb} prints wrong usage as {"error": …}`, async () => {
      const { status, stdout } = run([verb, '--json', '--no-such-option'])
      expect(await status).to.equal(2)
      expect(documentOf(stdout()).error.code).to.equal('usage')
    })
  }
})

describe('a verb that has waited', () => {
  let view: SessionView
  let bus: FakeBus
  const accepted = { accepted: true as const, session: ID }

  beforeEach(() => {
    view = sessionView({ state: 'published' })
    bus = createFakeBus({
      'session.show': () => ({ accepted: true, session: view }),
      'session.list': () => ({ accepted: true, sessions: [view], more: false }),
      'session.export': () => ({ ...accepted, export: 'e1' }),
      ...Object.fromEntries(
        (['instance.publish', 'session.republish', 'session.promote', 'session.advance'] as const).map(
          (type) => [type, () => accepted],
        ),
      ),
      'session.retry': () => accepted,
      'session.cancel': () => accepted,
      'session.extend': () => accepted,
      'session.unpublish': () => accepted,
      'session.forget': () => accepted,
      'agent.list': () => ({ accepted: true, agents: [] }),
    })
  })

  for (const [verb, args] of COMMANDS) {
    it(`${verb} sends the message id that it is given`, async () => {
      const flags = verb === 'extend' || verb === 'forget' ? [] : ['--no-wait']
      const { status } = run([verb, ...args, ...flags, '--message-id', 'job-17'], { bus })
      expect(await status).to.equal(0)
      const sent = bus.requests.filter(({ messageId }) => messageId === 'job-17')
      expect(sent.map(({ type }) => type)).to.have.length(1)
    })
  }

  for (const state of ['failed', 'closed'] as const) {
    it(`prints an error when the session is ${state} without one`, async () => {
      view = sessionView({ state })
      const { status, stdout } = run(['publish', ...SOURCE, '--json'], { bus })
      expect(await status).to.equal(1)
      expect(documentOf(stdout()).error).to.include({ code: 'session_state' })
    })
  }

  it('prints an error when the session cannot be unpublished', async () => {
    const running = run(['unpublish', ID, '--json'], { bus })
    await until(() => bus.requests.some(({ type }) => type === 'session.unpublish'), 'it is asked for')
    view = sessionView({ state: 'failed' })
    bus.deliver('session.state', stateEvent(ID, 'failed'))
    expect(await running.status).to.equal(1)
    expect(documentOf(running.stdout()).error).to.include({ code: 'internal' })
  })

  const job = {
    id: 'e1',
    request: { destination: { type: 'directory' as const, path: '/srv/rescue' } },
    requestedAt: '2025-11-22T06:30:00.000Z',
  }

  it('prints an error when a database was not exported', async () => {
    const databases = [{ database: 'app', status: 'failed' as const }]
    view = sessionView({ state: 'published', exports: [{ ...job, status: 'failed', databases }] })
    const { status, stdout } = run(['export', ID, '--to', '/srv/rescue', '--json'], { bus })
    expect(await status).to.equal(1)
    expect(documentOf(stdout())).to.deep.include({
      session: ID,
      error: { code: 'export_failed', message: 'the export e1 lacks app', retryable: false },
    })
  })

  it('prints an error when a rescue was closed before it had exported anything', async () => {
    view = sessionView({ state: 'closed' })
    const rescue = ['rescue', ...SOURCE, '--database', 'app', '--to', '/srv/rescue', '--json']
    const { status, stdout } = run(rescue, { bus })
    expect(await status).to.equal(1)
    expect(documentOf(stdout()).error).to.include({ code: 'session_state' })
  })

  it('prints an error when the watched session failed', async () => {
    view = sessionView({ state: 'failed', error: { code: 'port_taken', message: 'in use' } })
    const { status, stdout } = run(['watch', ID, '--json'], { bus })
    expect(await status).to.equal(1)
    expect(documentOf(stdout())).to.deep.include({
      type: 'session.show',
      error: { ...view.error, retryable: false },
    })
  })

  it('does not wait for a step that has been made already when a command is repeated', async () => {
    const step = { step: 'recover' as const, direction: 'run' as const, status: 'done' as const }
    const steps = [5, 6].map((sequence) => ({ ...step, sequence, startedAt: '2025-11-22T06:30:00.000Z' }))
    view = sessionView({ state: 'published', steps })
    const repeated = createFakeBus({
      'session.show': () => ({ accepted: true, session: view }),
      'session.promote': () => ({ accepted: true, session: ID, after: 5 }),
    })
    const { status } = run(['promote', ID, '--message-id', 'job-17', '--timeout', '5'], { bus: repeated })
    expect(await status).to.equal(0)
  })

  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) {
    it(`prints the session and an error after ${signal}, and ends with ${exitStatusOf(signal)}`, async () => {
      view = sessionView({ state: 'mounting' })
      const running = run(['publish', ...SOURCE, '--json'], { bus })
      await until(() => bus.requests.some(({ type }) => type === 'session.show'), 'the session is shown')
      await sleep(20)
      running.interrupt(signal)
      expect(await running.status).to.equal(exitStatusOf(signal))
      const document = documentOf(running.stdout())
      expect(document).to.include({ id: ID, state: 'mounting' })
      expect(document.error.code).to.equal('interrupted')
      expect(document.error.message).to.include(signal)
    })
  }

  it('prints the session and an error after --timeout, with the error that the session has', async () => {
    view = sessionView({ state: 'mounting', error: { code: 'agent_offline', message: 'away' } })
    const { status, stdout } = run(['publish', ...SOURCE, '--json', '--timeout', '0.1'], { bus })
    expect(await status).to.equal(1)
    const document = documentOf(stdout())
    expect(document).to.include({ id: ID, state: 'mounting' })
    expect(document.error).to.deep.include({
      code: 'timeout',
      details: [{ ...view.error, retryable: true }],
    })
  })
})

describe('--timeout', () => {
  const publishing = sessionView({ state: 'mounting' })

  it('is counted once, from the start of the verb', async () => {
    const bus = createFakeBus({
      'instance.publish': async () => {
        await sleep(600)
        return { accepted: true, session: ID }
      },
      'session.show': () => ({ accepted: true, session: publishing }),
    })
    const started = performance.now()
    const { status, stderr } = run(['publish', ...SOURCE, '--timeout', '1'], { bus })
    expect(await status).to.equal(1)
    expect(stderr()).to.include('not done after 1 s')
    // The rest of the second after the answer, not another second.
    expect(performance.now() - started).to.be.within(950, 1500)
  })

  for (const [verb, args] of [...COMMANDS, ...QUERIES]) {
    it(`bounds the questions of ${verb}`, async () => {
      const bus = createFakeBus({})
      const unanswered: FakeBus = {
        ...bus,
        request: (_type, _body, { signal } = {}) =>
          new Promise((_resolve, reject) => {
            signal?.addEventListener('abort', () => reject(signal.reason))
          }),
      }
      const { status, stdout, stderr } = run([verb, ...args, '--json', '--timeout', '0.1'], {
        bus: unanswered,
      })
      expect(await status).to.equal(1)
      expect(documentOf(stdout()).error).to.include({ code: 'timeout' })
      expect(stderr()).to.include('0.1 s')
    })
  }

  it('names the message id by which a command that was not answered can be repeated', async () => {
    const bus = createFakeBus({
      'instance.publish': () => {
        throw new HowdahError('timeout', 'the coordinator did not answer')
      },
    })
    const { status, stdout } = run(
      ['publish', ...SOURCE, '--json', '--timeout', '0.5', '--message-id', 'job-17'],
      {
        bus,
      },
    )
    expect(await status).to.equal(1)
    expect(documentOf(stdout()).error.message).to.include('--message-id job-17')
  })
})
