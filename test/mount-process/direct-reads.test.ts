/** Direct reads from an engine's side to main's and back, over shared memory; a file stands for the device. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { constants } from 'node:os'
import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { blockCheck } from '../../agents/target/filesystem/fetched/block-check.ts'
import type { DirectRead } from '../../agents/target/filesystem/reads/direct-reads.ts'
import {
  createDirectReadSender,
  SLOTS,
  sharedDirectReadRing,
} from '../../agents/target/mount-process/threads/direct-read-ring.ts'
import { createDirectReadRunner } from '../../agents/target/mount-process/threads/direct-read-runner.ts'

const HEADER = 16

describe('direct reads', () => {
  let directory: string
  let device: number
  let store: number
  /** Reads of the repository that wait for their end. */
  let reads: { readonly resolve: (data: Buffer) => void; readonly reject: (error: Error) => void }[]
  let said: string[]
  let calls: number

  beforeEach(() => {
    directory = mkdtempSync('/tmp/howdah-direct-reads-')
    device = openSync(`${directory}/device`, 'w')
    store = openSync(`${directory}/store`, 'w')
    reads = []
    said = []
    calls = 0
  })
  afterEach(() => {
    closeSync(device)
    closeSync(store)
    rmSync(directory, { recursive: true })
  })

  function bothSides() {
    const ring = sharedDirectReadRing()
    const sender = createDirectReadSender(ring, () => {
      calls++
    })
    const runner = createDirectReadRunner({
      ring,
      device,
      read: () => {
        const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
        reads.push({ resolve, reject })
        return promise
      },
      wakeEngine: () => said.push('woken'),
      onFailure: (slot, error) => sender.failed(slot, error as Error),
      onFetched: () => undefined,
      logger: pino({ level: 'silent' }),
    })
    return { sender, runner }
  }
  const directRead = (change: Partial<DirectRead> = {}): DirectRead => ({
    ...{
      low: 7,
      high: 1,
      pid: 4711,
      file: 3,
      offset: 8192,
      length: 10,
      from: 2,
      to: 6,
      fd: store,
      position: 5,
    },
    onCompleted: (checks) => said.push(checks === undefined ? 'lost' : `completed ${checks.join(' ')}`),
    onFailed: (error) => said.push(error.message),
    ...change,
  })
  const answers = () => readFileSync(`${directory}/device`)

  it('reply to the requester, keep the blocks, and are seen by the engine when it polls', async () => {
    const { sender, runner } = bothSides()
    sender.send(directRead())
    runner.poll()
    reads[0]?.resolve(Buffer.from('0123456789'))
    await setImmediate()
    expect(answers().readUInt32LE(0)).to.equal(HEADER + 4)
    expect([answers().readInt32LE(4), answers().readUInt32LE(8), answers().readUInt32LE(12)]).to.eql([
      0, 7, 1,
    ])
    expect(answers().toString('latin1', HEADER)).to.equal('2345')
    expect(readFileSync(`${directory}/store`, 'latin1')).to.equal('\0\0\0\0\x000123456789')
    expect(said).to.eql([])
    sender.takeDone()
    expect(said).to.eql([`completed ${blockCheck(Buffer.from('0123456789'))}`])
  })

  it('notify an engine that waits for them, whenever it began to wait', async () => {
    const { sender, runner } = bothSides()
    const before = sender.send(directRead())
    const after = sender.send(directRead())
    before()
    runner.poll()
    for (const read of reads) read.resolve(Buffer.alloc(10))
    await setImmediate()
    expect(said).to.eql(['woken'])
    after()
    const completed = `completed ${blockCheck(Buffer.alloc(10))}`
    expect(said).to.eql(['woken', completed, completed])
  })

  it('notify the main thread once until it polls', () => {
    const { sender, runner } = bothSides()
    for (let count = 0; count < 5; count++) sender.send(directRead())
    expect(calls).to.equal(1)
    runner.poll()
    expect(reads.length).to.equal(5)
    sender.send(directRead())
    expect(calls).to.equal(2)
  })

  it('that fail are an I/O error for the requester, and report their error to the engine', async () => {
    const { sender, runner } = bothSides()
    sender.send(directRead())
    runner.poll()
    reads[0]?.reject(new Error('the mount server is away'))
    await setImmediate()
    expect(answers().length).to.equal(HEADER)
    expect(answers().readInt32LE(4)).to.equal(-constants.errno.EIO)
    expect(said).to.eql(['the mount server is away'])
    expect(readFileSync(`${directory}/store`).length).to.equal(0)
  })

  it('report blocks that could not be kept', async () => {
    const { sender, runner } = bothSides()
    const readOnly = openSync(`${directory}/store`, 'r')
    sender.send(directRead({ fd: readOnly }))
    runner.poll()
    reads[0]?.resolve(Buffer.alloc(10))
    await setImmediate()
    closeSync(readOnly)
    sender.takeDone()
    expect(said).to.eql(['lost'])
    expect(answers().length).to.equal(HEADER + 4)
  })

  it('use neither device nor store after they were stopped', async () => {
    const { sender, runner } = bothSides()
    sender.send(directRead())
    sender.send(directRead())
    runner.poll()
    runner.stop()
    reads[0]?.resolve(Buffer.alloc(10))
    reads[1]?.reject(new Error('closed'))
    await setImmediate()
    expect(answers().length).to.equal(0)
    expect(readFileSync(`${directory}/store`).length).to.equal(0)
    expect(said).to.eql([])
  })

  it('know their requester while in progress, and are limited in number', async () => {
    const { sender, runner } = bothSides()
    // More than once around the queues.
    for (let round = 0; round < 5; round++) {
      for (let low = 0; low < SLOTS; low++) sender.send(directRead({ low, pid: 1000 + low }))
      expect(sender.isFull).to.equal(true)
      expect(sender.requesterOf(5, 1)).to.equal(1005)
      expect(sender.requesterOf(5, 2)).to.equal(undefined)
      runner.poll()
      for (const { resolve } of reads.splice(0)) resolve(Buffer.alloc(10))
      await setImmediate()
      sender.takeDone()
      expect(sender.isFull).to.equal(false)
      expect(sender.requesterOf(5, 1)).to.equal(undefined)
    }
    expect(said.length).to.equal(5 * SLOTS)
  })
})
