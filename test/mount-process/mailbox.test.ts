import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import { HowdahError } from '../../messages/errors.ts'
import { type Sleeper, startSleeper } from './support.ts'

describe('messages to a thread that sleeps in a system call', function () {
  this.timeout(60_000)
  let sleeper: Sleeper
  before(() => {
    sleeper = startSleeper()
  })
  after(() => sleeper.end())

  it('wakes it for one message at a time, however long it has slept', async () => {
    for (let round = 0; round < 5000; round++) {
      expect(await sleeper.calls.call('double', round)).to.equal(round * 2)
      if (round % 500 === 0) await sleep(5)
    }
  })

  it('are never lost while requests, calls and answers arrive from all sides', async () => {
    let sum = 0
    let requests = 0
    for (let round = 0; round < 2000; round++) {
      const under = Array.from({ length: round % 7 }, (_, index) =>
        sleeper.calls.call('roundTrip', round + index),
      )
      if (round % 3 === 0) {
        sleeper.request()
        requests++
      }
      if (round % 5 === 0) await setImmediate()
      const answers = await Promise.all(under)
      answers.forEach((answer, index) => {
        expect(answer).to.equal(round + index + 2)
        sum++
      })
    }
    expect(sum).to.be.greaterThan(5000)
    while ((await sleeper.calls.call('requests')) < requests) await setImmediate()
  })

  it('does not wake one that is awake', async () => {
    const before = sleeper.wakeups
    await Promise.all(Array.from({ length: 1000 }, (_, value) => sleeper.calls.call('double', value)))
    expect(sleeper.wakeups - before).to.be.lessThan(1000)
  })

  it('moves bytes that have a buffer of their own, and leaves shared ones as they are', async () => {
    const own = Buffer.from(new ArrayBuffer(100_000))
    expect(await sleeper.calls.call('length', own)).to.equal(100_000)
    expect(own.length).to.equal(0)
    const part = Buffer.alloc(100).subarray(10, 30)
    const pooled = Buffer.from('pooled')
    expect(await sleeper.calls.call('length', part)).to.equal(20)
    expect(await sleeper.calls.call('length', pooled)).to.equal(6)
    expect([part.length, pooled.toString()]).to.deep.equal([20, 'pooled'])
  })

  it('carries errors across, there and back, with the code that is decided by', async () => {
    const failure = (kind: string) => sleeper.calls.call('fail', kind).catch((error: unknown) => error)
    const howdah = await failure('howdah')
    expect(howdah).to.be.instanceOf(HowdahError)
    expect(howdah).to.include({ code: 'backup_damaged', message: 'file x of backup y' })
    const fileSystem = await failure('file-system')
    expect(fileSystem).to.be.instanceOf(FileSystemError)
    expect(fileSystem).to.include({ errno: 'ENOSPC', message: 'full' })
    expect(await failure('system')).to.include({ code: 'EDQUOT', message: 'disk' })
  })
})
