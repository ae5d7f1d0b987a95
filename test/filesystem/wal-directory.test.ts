/** The directory `wal/` on its own: names, and the bytes of files that are read in it. */
import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { WalDirectory } from '../../agents/target/filesystem/wal/wal-directory.ts'
import { HowdahError } from '../../messages/errors.ts'
import { errnoOf } from './support/engine-fixture.ts'

const MiB = 1024 * 1024
const name = (segment: number, timeline = 1) =>
  `0000000${timeline}00000000${segment.toString(16).toUpperCase().padStart(8, '0')}`

describe('the directory wal/', () => {
  let archive: Map<string, number>
  let damaged: Set<string>
  /** The archive has their sizes. */
  let unreadable: Set<string>
  let sizes: string[]
  let reads: string[]
  let running: number
  let mostRunning: number
  /** While set, answers wait for it. */
  let gate: Promise<void> | undefined
  let wal: WalDirectory

  beforeEach(() => {
    archive = new Map()
    damaged = new Set()
    unreadable = new Set()
    sizes = []
    reads = []
    running = mostRunning = 0
    gate = undefined
    wal = new WalDirectory({
      services: {
        async walSize(file) {
          sizes.push(file)
          await (gate ?? setImmediate())
          if (damaged.has(file)) throw new HowdahError('backup_damaged', `${file} is damaged`)
          return archive.get(file)
        },
        async walRead(file, offset, length) {
          reads.push(`${file} ${offset / MiB}`)
          running += 1
          mostRunning = Math.max(mostRunning, running)
          await (gate ?? setImmediate())
          running -= 1
          if (damaged.has(file) || unreadable.has(file))
            throw new HowdahError('backup_damaged', `${file} is damaged`)
          return Buffer.alloc(length, file.at(-1))
        },
      },
      owner: { uid: 1, gid: 2 },
      mtime: 0n,
      logger: pino({ level: 'silent' }),
    })
  })

  function store(count: number, bytes: number): void {
    for (let segment = 1; segment <= count; segment++) archive.set(name(segment), bytes)
  }

  async function readAll(file: string): Promise<string> {
    const { ino, size } = await wal.lookup(file)
    const buffer = Buffer.alloc(size)
    const piece = 256 * 1024
    for (let at = 0; at < size; at += piece) {
      await wal.read(ino, buffer.subarray(at, at + piece), Math.min(piece, size - at), at)
    }
    return buffer.toString('latin1')
  }

  /** Resolves when no more requests arrive. */
  async function quiet(): Promise<void> {
    for (let before = -1, rounds = 0; rounds < 5; ) {
      const asked = sizes.length + reads.length
      rounds = asked === before ? rounds + 1 : 0
      before = asked
      await setImmediate()
    }
  }

  it('reports a missing segment at once, and finds it when it has been archived', async () => {
    store(1, MiB)
    await readAll(name(1))
    await quiet()
    expect(await errnoOf(() => wal.lookup(name(2)))).to.equal('ENOENT')
    expect(await errnoOf(() => wal.lookup(name(2)))).to.equal('ENOENT')
    archive.set(name(2), MiB)
    expect(await readAll(name(2))).to.equal('2'.repeat(MiB))
  })

  it('fails reads of a damaged segment only, and retries later reads', async () => {
    store(3, MiB)
    damaged.add(name(2))
    expect(await readAll(name(1))).to.have.lengthOf(MiB)
    await quiet()
    expect(await errnoOf(() => readAll(name(2)))).to.equal('EIO')
    expect(await readAll(name(3))).to.have.lengthOf(MiB)
    damaged.clear()
    expect(await readAll(name(2))).to.have.lengthOf(MiB)
  })

  it('discards a piece of read-ahead that could not be read', async () => {
    store(1, 2 * MiB)
    unreadable.add(name(1))
    await wal.lookup(name(1))
    await quiet()
    expect(await errnoOf(() => readAll(name(1)))).to.equal('EIO')
    unreadable.clear()
    expect(await readAll(name(1))).to.have.lengthOf(2 * MiB)
  })

  it('limits read-ahead', async () => {
    store(1, 64 * MiB)
    const { ino } = await wal.lookup(name(1))
    await wal.read(ino, Buffer.alloc(10), 10, 0)
    await quiet()
    expect(reads).to.deep.equal([0, 1, 2, 3, 4].map((chunk) => `${name(1)} ${chunk}`))
  })

  it('reads each piece once, whatever the order and size of requests', async () => {
    store(1, 3 * MiB)
    expect(await readAll(name(1))).to.equal('1'.repeat(3 * MiB))
    expect(reads.toSorted()).to.deep.equal([0, 1, 2].map((chunk) => `${name(1)} ${chunk}`))
  })

  it('fetches once what two read at the same time', async () => {
    store(1, MiB)
    const { ino } = await wal.lookup(name(1))
    await Promise.all([0, 512 * 1024].map((at) => wal.read(ino, Buffer.alloc(1000), 1000, at)))
    expect(reads).to.deep.equal([`${name(1)} 0`])
  })
})
