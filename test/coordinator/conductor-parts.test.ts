import { expect } from 'chai'
import { pino } from 'pino'
import { createBackgroundWork } from '../../coordinator/conductor/background-work.ts'
import { createRetryTimers } from '../../coordinator/conductor/retry-timers.ts'
import { createLocks } from '../../coordinator/locks.ts'
import { newSession, type Session } from '../../coordinator/session.ts'
import { publishBody, until } from './test-coordinator.ts'

describe('locks', () => {
  /** Work that notes when it starts and ends; it ends when `finish` is called. */
  function manualWork(name: string, seen: string[]): { work: () => Promise<void>; finish: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>()
    const work = async (): Promise<void> => {
      seen.push(`${name} starts`)
      await promise
      seen.push(`${name} ends`)
    }
    return { work, finish: resolve }
  }

  it('let work under one name run one after the other, in the order of the calls', async () => {
    const locks = createLocks()
    const seen: string[] = []
    const [first, second] = [manualWork('first', seen), manualWork('second', seen)]
    const both = [locks.exclusive('shop-1', first.work), locks.exclusive('shop-1', second.work)]
    second.finish()
    first.finish()
    await Promise.all(both)
    expect(seen).to.deep.equal(['first starts', 'first ends', 'second starts', 'second ends'])
  })

  it('do not let work under one name wait for work under another', async () => {
    const locks = createLocks()
    const seen: string[] = []
    const [first, second] = [manualWork('first', seen), manualWork('second', seen)]
    const running = locks.exclusive('shop-1', first.work)
    second.finish()
    await locks.exclusive('shop-2', second.work)
    expect(seen).to.deep.equal(['first starts', 'second starts', 'second ends'])
    first.finish()
    await running
  })

  it('pass a failure to its caller alone, and run what waits', async () => {
    const locks = createLocks()
    const failing = locks.exclusive('shop-1', async () => {
      throw new Error('the store is away')
    })
    const next = locks.exclusive('shop-1', async () => 'done')
    expect(await failing.catch((error: Error) => error.message)).to.equal('the store is away')
    expect(await next).to.equal('done')
    await locks.settled()
  })
})

describe('the timers of retries', () => {
  const session = (id: string, retryAt?: number): Session => ({
    ...newSession(
      id,
      { ...publishBody, backup: 'latest', recoverTo: { type: 'latest' }, options: {} },
      'backup-1',
      '2026-11-22T06:00:00.000Z',
    ),
    ...(retryAt !== undefined && { retryAt: new Date(retryAt).toISOString() }),
  })
  const now = (): number => 0

  it('fire once per session, a later schedule in place of an earlier one', async () => {
    const due: string[] = []
    const timers = createRetryTimers({ now, onDue: (id) => due.push(id) })
    timers.schedule(session('shop-1', 3_600_000))
    timers.schedule(session('shop-1', 10))
    timers.schedule(session('shop-2', 20))
    expect(timers.isScheduled('shop-1')).to.equal(true)
    await until('both timers fire', () => due.length === 2)
    expect(due).to.deep.equal(['shop-1', 'shop-2'])
    expect(timers.isScheduled('shop-1')).to.equal(false)
    timers.close()
  })

  it('are not set for a session without a retry, nor after they were closed', () => {
    const timers = createRetryTimers({ now, onDue: () => undefined })
    timers.schedule(session('shop-1'))
    expect(timers.isScheduled('shop-1')).to.equal(false)
    timers.close()
    timers.schedule(session('shop-2', 10))
    expect(timers.isScheduled('shop-2')).to.equal(false)
  })
})

describe('the background work of the conductor', () => {
  it('is waited for, and logs what fails with its session', async () => {
    const lines: string[] = []
    const background = createBackgroundWork(pino({}, { write: (line: string) => lines.push(line) }))
    const { promise, reject } = Promise.withResolvers<void>()
    background.track('sending a step', 'shop-1', promise)
    let settled = false
    const waiting = background.settled().then(() => {
      settled = true
    })
    await Promise.resolve()
    expect(settled).to.equal(false)
    reject(new Error('no broker'))
    await waiting
    expect(JSON.parse(lines[0] ?? '{}')).to.include({ session: 'shop-1', msg: 'sending a step failed' })
  })
})
