/** The parts of the spool by themselves: who waits for a decode, its turns, and which files the directory keeps. */
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { expect } from 'chai'
import { createDescriptorCache } from '../../agents/mount/decode/descriptor-cache.ts'
import { createTurns } from '../../agents/mount/spool/decode-turns.ts'
import { createDecodeWaiters } from '../../agents/mount/spool/decode-waiters.ts'
import type { Decode } from '../../agents/mount/spool/file-decode.ts'
import { readInTurns } from '../../agents/mount/spool/read-in-turns.ts'
import { openSpoolEntries, type SpoolEntries } from '../../agents/mount/spool/spool-entries.ts'
import { quiet } from './fixture.ts'

const never = new AbortController().signal

describe('readers that wait for a decode', () => {
  it('are resolved in any order, each once its own bytes are there', async () => {
    const waiters = createDecodeWaiters()
    const resolved: number[] = []
    const waits = [300, 100, 200].map(async (bytes) => {
      expect(await waiters.wait(bytes, undefined)).to.equal(7)
      resolved.push(bytes)
    })
    waiters.reached(99, 7)
    await Promise.resolve()
    expect(resolved).to.deep.equal([])
    waiters.reached(200, 7)
    await Promise.all(waits.slice(1))
    expect(resolved).to.deep.equal([100, 200])
    waiters.reached(300, 7)
    await Promise.all(waits)
  })

  it('are resolved by the end of the file, also where they asked for more than it has', async () => {
    const waiters = createDecodeWaiters()
    const wait = waiters.wait(1_000_000, undefined)
    waiters.complete(7)
    expect(await wait).to.equal(7)
  })

  it('fail with the decode, and alone when their own signal is aborted', async () => {
    const waiters = createDecodeWaiters()
    const aborted = new AbortController()
    const outcome = (wait: Promise<number>) => wait.catch((error: unknown) => error)
    const first = outcome(waiters.wait(10, aborted.signal))
    const second = outcome(waiters.wait(10, undefined))
    aborted.abort(new Error('no longer needed'))
    expect(await first)
      .to.be.an('error')
      .with.property('message', 'no longer needed')
    waiters.fail(new Error('damaged'))
    expect(await second)
      .to.be.an('error')
      .with.property('message', 'damaged')
  })
})

describe('a stream that is read in turns', () => {
  const piece = Buffer.alloc(256 * 1024)
  const stream = (pieces: number) => Readable.from(Array.from({ length: pieces }, () => piece))

  it('is written completely and in order, and gives up the processor after each MiB', async () => {
    const turns = createTurns(1, 0)
    let written = 0
    const ends: number[] = []
    await readInTurns(stream(10), {
      turns,
      urgent: () => true,
      signal: never,
      write: async ({ length }) => {
        written += length
      },
      turnEnded: () => ends.push(written / piece.length),
    })
    expect(ends).to.deep.equal([4, 8, 10])
  })

  it('ends its turn when writing fails, so that others are decoded', async () => {
    const turns = createTurns(1, 0)
    const failed = await readInTurns(stream(2), {
      turns,
      urgent: () => true,
      signal: never,
      write: async () => {
        throw new Error('no space left')
      },
      turnEnded: () => undefined,
    }).catch((error: unknown) => error)
    expect(failed).to.be.an('error').with.property('message', 'no space left')
    const end = await turns.take(() => true)
    end()
  })

  it('is cancelled by its signal', async () => {
    const cancelled = new AbortController()
    const failed = await readInTurns(stream(10), {
      turns: createTurns(1, 0),
      urgent: () => true,
      signal: cancelled.signal,
      write: async () => cancelled.abort(new Error('evicted')),
      turnEnded: () => undefined,
    }).catch((error: unknown) => error)
    expect(failed).to.be.an('error').with.property('message', 'evicted')
  })
})

describe("the spool's directory", () => {
  const descriptors = createDescriptorCache(8)
  const key = (digit: string) => digit.repeat(64)
  let directory: string

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-test-spool-'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))
  after(() => descriptors.close())

  const open = (maxBytes: number): SpoolEntries =>
    openSpoolEntries({ directory, maxBytes, descriptors, logger: quiet })

  /** Of a complete file. */
  const complete = (entries: SpoolEntries, digit: string, size: number) =>
    entries.add(key(digit), { path: entries.pathOf(key(digit)), size, decode: undefined })

  it('adopts complete files, the least recently written ones first to go, and removes incomplete ones', async () => {
    for (const [name, at] of [
      [`${key('a')}.plain`, 300],
      [`${key('b')}.plain`, 100],
      [`${key('c')}.1.part`, 200],
      ['index', 200],
    ] as const) {
      await writeFile(join(directory, name), 'plain')
      await utimes(join(directory, name), at, at)
    }
    const entries = open(5)
    expect(entries.has(key('a'))).to.equal(true)
    expect(entries.has(key('b'))).to.equal(false)
    expect(await readdir(directory)).to.not.include(`${key('c')}.1.part`)
    expect(await readdir(directory)).to.include('index')
  })

  it('evicts the least recently used file that is not in use', () => {
    const entries = open(10)
    const used = complete(entries, 'a', 4)
    complete(entries, 'b', 4)
    complete(entries, 'c', 4)
    used.users = 1
    entries.makeRoom(0)
    expect(['a', 'b', 'c'].filter((digit) => entries.has(key(digit)))).to.deep.equal(['a', 'c'])
    used.users = 0
    entries.get(key('a'))
    entries.makeRoom(6)
    expect(['a', 'b', 'c'].filter((digit) => entries.has(key(digit)))).to.deep.equal(['a'])
  })

  it('counts what a file takes only as long as it is the one of its key', () => {
    const entries = open(10)
    const old = complete(entries, 'a', 4)
    entries.remove(key('a'), old)
    complete(entries, 'a', 4)
    expect(entries.resize(key('a'), old, 100)).to.equal(false)
    entries.makeRoom(6)
    expect(entries.has(key('a'))).to.equal(true)
  })

  it('cancels a decode without readers when there are too many', () => {
    const entries = open(1000)
    const cancelled: string[] = []
    for (const digit of ['a', 'b', 'c']) {
      const decode: Decode = {
        wait: async () => 0,
        release: () => undefined,
        busy: digit === 'a',
        complete: false,
        failure: undefined,
        settled: Promise.resolve(),
        cancel: () => void cancelled.push(digit),
      }
      entries.add(key(digit), { path: entries.pathOf(key(digit)), size: 1, decode })
    }
    entries.limitDecodes(4)
    expect(cancelled).to.deep.equal([])
    entries.limitDecodes(3)
    expect(cancelled).to.deep.equal(['b'])
  })
})
