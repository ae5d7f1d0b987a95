/** `howdah publish`, `unpublish` and `watch`: the commands that they send, their output and their exit status. */
import { stripVTControlCharacters } from 'node:util'
import { expect } from 'chai'
import { brokerBlocked } from '../../messages/broker-alarm.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { createFakeBus, type FakeBus, sessionView, stateEvent } from './fake-bus.ts'
import { run, until } from './run.ts'

const PUBLISH = ['publish', '--repository', 'prod', '--instance', 'main', '--target', 'local']
const ID = 'main-x7f3k2'
const AT = '2025-11-22T06:30:00.000Z'
const LATER = '2025-11-22T06:30:01.500Z'

const published = (): SessionView =>
  sessionView({
    state: 'published',
    backup: '20251122-060000F',
    connection: { host: '/tmp/howdah/s', port: 54320, socketDirectory: '/tmp/howdah/s', user: 'postgres' },
    writeCache: { path: '/var/tmp/howdah/s', bytes: 3_400_000 },
    usage: {
      fetchedBytes: 12_400_000,
      totalBytes: 1_500_000_000,
      cacheBytes: 3_400_000,
      changedBytes: 1_200_000_000,
      quotaBytes: 10_000_000_000,
      freeBytes: 35_000_000_000,
      reserveBytes: 256_000_000,
    },
    steps: [
      { step: 'resolve', direction: 'run', sequence: 1, status: 'done', startedAt: AT, finishedAt: LATER },
      { step: 'recover', direction: 'run', sequence: 1, status: 'done', startedAt: AT, finishedAt: LATER },
    ],
  })

const failed = (): SessionView =>
  sessionView({
    state: 'failed',
    error: {
      code: 'preflight_failed',
      message: '2 checks failed',
      details: [
        { code: 'port_taken', message: 'port 5432 is in use' },
        { code: 'user_missing', message: 'no user "x"' },
      ],
    },
    undone: ['unmounted /tmp/howdah/s'],
  })

describe('howdah publish', () => {
  let view: SessionView
  let bus: FakeBus

  beforeEach(() => {
    view = sessionView()
    bus = createFakeBus({
      'instance.publish': () => ({ accepted: true, session: ID }),
      'session.unpublish': () => ({ accepted: true, session: ID }),
      'session.list': ({ session = '' }) => ({
        accepted: true,
        sessions: [view, sessionView({ id: 'main-b' })].filter(({ id }) => id.startsWith(session)),
        more: false,
      }),
      'session.show': ({ session }) =>
        session === ID
          ? { accepted: true, session: view }
          : { accepted: false, error: { code: 'unknown_session', message: `no session ${session}` } },
    })
  })

  function settle(next: SessionView) {
    view = next
    bus.deliver('session.state', stateEvent(ID, next.state))
  }

  it('sends exactly what the flags say', async () => {
    const flags = [
      '--backup',
      'B',
      '--port',
      '5433',
      '--user',
      'pg',
      '--recover-to',
      'time=2025-11-22 07:30+01',
    ]
    const { status, stdout } = run([...PUBLISH, ...flags, '--no-wait', '--message-id', 'm-1', '--json'], {
      bus,
    })
    expect(await status).to.equal(0)
    expect(JSON.parse(stdout())).to.deep.equal({
      accepted: true,
      session: ID,
      recoverTo: { type: 'time', value: '2025-11-22 07:30+01' },
    })
    expect(bus.requests).to.deep.equal([
      {
        type: 'instance.publish',
        messageId: 'm-1',
        body: {
          repository: 'prod',
          instance: 'main',
          target: 'local',
          backup: 'B',
          port: 5433,
          user: 'pg',
          recoverTo: { type: 'time', value: '2025-11-22 07:30+01' },
        },
      },
    ])
    expect(bus.isClosed).to.equal(true)
  })

  it('retries with the same message id when the coordinator does not answer', async () => {
    let tries = 0
    const patient = createFakeBus({
      'instance.publish': () => {
        tries += 1
        if (tries === 1) throw new HowdahError('timeout', 'no answer')
        return { accepted: true, session: ID }
      },
    })
    const { status } = run([...PUBLISH, '--no-wait'], { bus: patient })
    expect(await status).to.equal(0)
    const ids = new Set(patient.requests.map(({ messageId }) => messageId))
    expect([patient.requests.length, ids.size]).to.deep.equal([2, 1])
  })

  it('shows a refusal with code and field, and exits with 1', async () => {
    const refusing = createFakeBus({
      'instance.publish': () => ({
        accepted: false,
        error: {
          code: 'unknown_target',
          message: 'no target "local"; there are db-7, db-8',
          field: 'target',
        },
      }),
    })
    const { status, stdout, stderr } = run([...PUBLISH, '--json'], { bus: refusing })
    expect(await status).to.equal(1)
    expect(JSON.parse(stdout())).to.deep.equal({
      error: {
        code: 'unknown_target',
        message: 'no target "local"; there are db-7, db-8',
        retryable: false,
        field: 'target',
      },
    })
    expect(stderr()).to.include('there are db-7, db-8').and.to.include('code unknown_target, field target')
  })

  it('prints one plain line per change when piped, and how to connect', async () => {
    const { status, stdout } = run(PUBLISH, { bus })
    await until(() => stdout().includes('validating'), 'the first snapshot is shown')
    const step = { session: ID, step: 'resolve', direction: 'run', sequence: 1 } as const
    bus.deliver('session.step-started', step)
    bus.deliver('session.step-started', step)
    bus.deliver('session.step-progress', {
      ...step,
      bytesDone: 5_000_000,
      bytesTotal: 62_000_000,
      detail: 'reading',
    })
    settle(published())
    expect(await status).to.equal(0)
    expect(stdout()).not.to.include('\x1b')
    expect(stdout().match(/resolve {2,}running/g)).to.have.length(1)
    expect(stdout()).to.match(/resolve {2,}done {2,}1\.50 s/)
    expect(stdout()).to.include('psql -h /tmp/howdah/s -p 54320 -U postgres -d postgres')
    expect(stdout()).to.include('12.4 MB of 1.50 GB (0.8 %)')
    expect(bus.watchers).to.equal(0)
  })

  it('prints only the session on stdout with --json, and progress on stderr', async () => {
    const { status, stdout, stderr } = run([...PUBLISH, '--json'], { bus })
    await until(() => stderr().includes('validating'), 'the first snapshot is shown')
    settle(published())
    expect(await status).to.equal(0)
    expect(JSON.parse(stdout())).to.deep.equal(published())
    expect(stdout().trim().split('\n')).to.have.length(1)
    expect(stderr()).to.include('psql -h')
  })

  it('repaints the steps on a terminal, each line within its width', async () => {
    const { status, stdout } = run(PUBLISH, { bus, tty: true, columns: 60 })
    await until(() => stdout().includes('resolve'), 'steps are shown')
    const step = { session: ID, step: 'mount', direction: 'run', sequence: 1 } as const
    bus.deliver('session.step-progress', {
      ...step,
      bytesDone: 5_000_000,
      bytesTotal: 62_000_000,
      detail: 'x'.repeat(99),
    })
    expect(stdout()).to.include('\x1b[4A')
    expect(stdout()).to.include('5.00 of 62.0 MB')
    settle(published())
    expect(await status).to.equal(0)
    const plain = stripVTControlCharacters(stdout())
    const wide = plain.split('\n').filter((line) => [...line].length > 60 && !line.includes('psql'))
    expect(wide).to.deep.equal([])
  })

  it('shows why a session failed and what was undone, and exits with 1', async () => {
    view = failed()
    const { status, stdout } = run(PUBLISH, { bus })
    expect(await status).to.equal(1)
    for (const part of ['code preflight_failed', 'port 5432 is in use (port_taken)', 'undone  unmounted']) {
      expect(stdout()).to.include(part)
    }
  })

  it('prints a failed session as one JSON document, and exits with 1', async () => {
    view = failed()
    const { status, stdout } = run([...PUBLISH, '--json'], { bus })
    expect(await status).to.equal(1)
    const { error, ...rest } = failed()
    const details = error?.details?.map((detail) => ({ ...detail, retryable: false }))
    expect(JSON.parse(stdout())).to.deep.equal({ ...rest, error: { ...error, details, retryable: false } })
  })

  it('stops waiting on Ctrl-C, leaves the session as it is, and says how to follow it', async () => {
    const running = run(PUBLISH, { bus })
    await until(() => running.stdout().includes('validating'), 'the first snapshot is shown')
    running.interrupt()
    expect(await running.status).to.equal(130)
    expect(running.stderr()).to.include(`howdah watch ${ID}`).and.to.include(`howdah unpublish ${ID}`)
    expect(bus.requests.some(({ type }) => type === 'session.unpublish')).to.equal(false)
    expect(bus.isClosed).to.equal(true)
  })

  it('stops waiting after --timeout, and exits with 1', async () => {
    const { status, stderr } = run([...PUBLISH, '--timeout', '0.05'], { bus })
    expect(await status).to.equal(1)
    expect(stderr()).to.include('not done after 0.05 s')
  })

  it('keeps waiting while the coordinator is unavailable, and says so once', async () => {
    let isAway = true
    const restarting = createFakeBus({
      'instance.publish': () => ({ accepted: true, session: ID }),
      'session.show': () => {
        if (isAway) throw new HowdahError('unroutable', 'no coordinator')
        return { accepted: true, session: published() }
      },
    })
    const { status, stdout } = run(PUBLISH, { bus: restarting })
    await until(() => stdout().includes('does not answer'), 'the absence is reported')
    isAway = false
    restarting.deliver('session.state', stateEvent(ID, 'published'))
    expect(await status).to.equal(0)
    expect(stdout().match(/does not answer/g)).to.have.length(1)
    expect(stdout()).to.include('answers again')
  }).timeout(15_000)

  it('keeps waiting while RabbitMQ accepts no messages, and says what to do about it', async () => {
    let isBlocked = true
    const short = createFakeBus({
      'instance.publish': () => ({ accepted: true, session: ID }),
      'session.show': () => {
        if (isBlocked) throw brokerBlocked('low on disk')
        return { accepted: true, session: published() }
      },
    })
    const { status, stdout } = run(PUBLISH, { bus: short })
    await until(
      () => stdout().includes('still waiting for it. RabbitMQ takes no messages'),
      'the alarm is reported',
    )
    expect(stdout()).to.match(/low on disk.*Make room/)
    isBlocked = false
    short.deliver('session.state', stateEvent(ID, 'published'))
    expect(await status).to.equal(0)
  }).timeout(15_000)

  it('shows no control characters of messages', async () => {
    view = sessionView({ state: 'failed', error: { code: 'internal', message: 'a\x1b[31mb\nc' } })
    const { status, stdout } = run(PUBLISH, { bus })
    expect(await status).to.equal(1)
    expect(stdout()).not.to.include('\x1b')
    expect(stdout()).to.include('a [31mb c')
  })

  it('unpublish accepts the beginning of a session id, and waits until the session is closed', async () => {
    view = published()
    const { status, stdout } = run(['unpublish', 'main-x'], { bus })
    await until(() => bus.watchers === 1 && stdout().includes('published'), 'the session is followed')
    settle(sessionView({ state: 'closed', undone: ['stopped PostgreSQL'] }))
    expect(await status).to.equal(0)
    const sent = bus.requests.find(({ type }) => type === 'session.unpublish')
    expect(sent?.body).to.deep.equal({ session: ID, unlessChanged: true })
    expect(stdout()).to.include('Closed in').and.to.include('undone  stopped PostgreSQL')
  })

  it('unpublish refuses a beginning that several sessions share, and lists their ids', async () => {
    const { status, stderr } = run(['unpublish', 'main'], { bus })
    expect(await status).to.equal(1)
    expect(stderr()).to.include(ID).and.to.include('main-b')
    expect(bus.requests.some(({ type }) => type === 'session.unpublish')).to.equal(false)
  })

  it('watch --json prints snapshots and events, one per line', async () => {
    const { status, stdout } = run(['watch', ID, '--json'], { bus })
    await until(() => stdout() !== '', 'the first snapshot is printed')
    settle(published())
    expect(await status).to.equal(0)
    const lines = stdout()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.map(({ type }) => type)).to.deep.equal(['session.show', 'session.state', 'session.show'])
    expect(lines[2].body).to.deep.equal(published())
  })

  it('watch without a session prints the events of all sessions until Ctrl-C', async () => {
    const running = run(['watch'], { bus })
    await until(() => bus.watchers === 1, 'events are watched')
    bus.deliver('session.lost', { session: ID, what: 'mount', reason: 'killed' })
    running.interrupt()
    expect(await running.status).to.equal(130)
    expect(running.stdout()).to.include(`${ID}       lost its mount: killed`)
  })
})
