/** WAL segments made ready on this machine: what is there when, within which bounds, and what goes away again. */
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { expect } from 'chai'
import { pino } from 'pino'
import type { StoredWal } from '../../agents/dataplane/backup-source.ts'
import { createReadyWal, type ReadyWal } from '../../agents/target/mount-process/services/ready-wal.ts'
import { HowdahError } from '../../messages/errors.ts'

const MiB = 1024 * 1024
const name = (segment: number, timeline = 1) =>
  `0000000${timeline}00000000${segment.toString(16).toUpperCase().padStart(8, '0')}`

describe('WAL segments made ready', () => {
  let directory: string
  let archive: Map<string, number>
  /** What is handed over as it is stored. */
  let stored: Map<string, { contents: Buffer; compression: StoredWal['compression']; sha1?: string }>
  let damaged: Set<string>
  let asked: string[]
  let reads: string[]
  let running: number
  let mostRunning: number
  /** While set, reads wait for it. */
  let gate: Promise<void> | undefined
  let reserveBytes: number
  let wal: ReadyWal

  beforeEach(() => {
    directory = mkdtempSync('/var/tmp/howdah-ready-wal-')
    mkdirSync(path.join(directory, 'ready'))
    mkdirSync(path.join(directory, 'drafts'))
    archive = new Map()
    stored = new Map()
    damaged = new Set()
    asked = []
    reads = []
    running = mostRunning = reserveBytes = 0
    gate = undefined
    wal = make()
  })

  afterEach(async () => {
    gate = undefined
    await wal.clear()
    await quiet()
    rmSync(directory, { recursive: true })
  })

  const make = (): ReadyWal =>
    createReadyWal({
      directory: path.join(directory, 'ready'),
      drafts: path.join(directory, 'drafts'),
      owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
      reserveBytes,
      source: {
        async size(file) {
          asked.push(file)
          return archive.get(file)
        },
        async read(file, offset, length) {
          reads.push(`${file} ${offset / MiB}`)
          running += 1
          mostRunning = Math.max(mostRunning, running)
          await gate
          await sleep(1)
          running -= 1
          if (damaged.has(file)) throw new HowdahError('backup_damaged', `${file} is damaged`)
          return Buffer.alloc(length, file.at(-1))
        },
        async stored(file) {
          const found = stored.get(file)
          return found && { bytes: found.contents.length, compression: found.compression, sha1: found.sha1 }
        },
        async readStored(file, offset, length) {
          reads.push(`${file} stored`)
          return Buffer.from(stored.get(file)?.contents.subarray(offset, offset + length) ?? [])
        },
      },
      logger: pino({ level: 'silent' }),
    })

  function store(count: number, bytes: number, timeline = 1): void {
    for (let segment = 1; segment <= count; segment++) archive.set(name(segment, timeline), bytes)
  }

  const ready = (): string[] => readdirSync(path.join(directory, 'ready')).toSorted()
  const drafts = (): string[] => readdirSync(path.join(directory, 'drafts'))

  /** As the restore script does. */
  async function take(file: string): Promise<string | undefined> {
    if ((await wal.wanted(file)) === undefined) return undefined
    const lies = path.join(directory, 'ready', file)
    if (!existsSync(lies)) return undefined
    const contents = readFileSync(lies, 'latin1')
    unlinkSync(lies)
    return contents
  }

  async function quiet(): Promise<void> {
    for (let before = '', rounds = 0; rounds < 20; ) {
      const now = `${asked.length} ${reads.length} ${running} ${ready()} ${drafts()}`
      rounds = now === before ? rounds + 1 : 0
      before = now
      await sleep(5)
    }
  }

  it('returns a segment once it is complete on disk', async () => {
    store(1, 2 * MiB)
    expect(await take(name(1))).to.equal('1'.repeat(2 * MiB))
    expect(drafts()).to.deep.equal([])
  })

  it('has the next segments before they are wanted, each read once, in growing numbers', async () => {
    store(20, MiB)
    const lay: string[][] = []
    for (const segment of [1, 2, 3, 4, 5]) {
      expect(await take(name(segment))).to.equal(String(segment).repeat(MiB))
      await quiet()
      lay.push(ready())
    }
    const following = (segment: number, count: number) =>
      Array.from({ length: count }, (_, index) => name(segment + 1 + index))
    expect(lay).to.deep.equal([
      following(1, 1),
      following(2, 2),
      following(3, 4),
      following(4, 4),
      following(5, 4),
    ])
    expect(reads.filter((read, index) => reads.indexOf(read) !== index)).to.deep.equal([])
  })

  it('makes only one ready ahead where segments are large, and reads few pieces at once', async () => {
    store(9, 64 * MiB)
    for (const segment of [1, 2, 3]) await take(name(segment))
    await quiet()
    expect(ready()).to.deep.equal([name(4)])
    expect(mostRunning).to.be.within(4, 8)
  }).timeout(60_000)

  it('continues in the next log file after the last segment of one', async () => {
    const [last, next] = ['0000000100000002000000FF', '000000010000000300000000']
    archive.set(last, 16 * MiB).set(next, 16 * MiB)
    await take(last)
    await quiet()
    expect(ready()).to.deep.equal([next])
  })

  it('reports a missing segment at once, and has it when it was archived', async () => {
    store(1, MiB)
    await take(name(1))
    expect(await wal.wanted(name(2))).to.equal(undefined)
    expect(await wal.wanted(name(2))).to.equal(undefined)
    archive.set(name(2), MiB)
    expect(await take(name(2))).to.equal('2'.repeat(MiB))
  })

  it('asks once for a segment ahead that is missing', async () => {
    store(2, MiB)
    await take(name(1))
    await take(name(2))
    await quiet()
    expect(asked.filter((file) => file === name(3))).to.have.lengthOf(1)
  })

  it('follows a timeline switch, and removes segments of the old one', async () => {
    store(9, MiB)
    store(9, MiB, 2)
    for (const segment of [1, 2, 3]) await take(name(segment))
    expect(await take(name(3, 2))).to.equal('3'.repeat(MiB))
    await quiet()
    expect(ready()).to.deep.equal([name(4, 2)])
  })

  it('does not make a damaged segment ready, still reports its size, and tries it again', async () => {
    store(3, MiB)
    damaged.add(name(2))
    await take(name(1))
    await quiet()
    expect(await wal.wanted(name(2))).to.equal(MiB)
    await quiet()
    expect(ready()).not.to.include(name(2))
    expect(drafts()).to.deep.equal([])
    damaged.clear()
    expect(await take(name(2))).to.equal('2'.repeat(MiB))
  })

  it('makes a segment ready again that was taken and is wanted once more', async () => {
    store(1, MiB)
    await take(name(1))
    expect(await take(name(1))).to.equal('1'.repeat(MiB))
  })

  it('makes nothing ready where that would touch the reserve', async () => {
    store(2, MiB)
    reserveBytes = Number.MAX_SAFE_INTEGER
    wal = make()
    expect(await wal.wanted(name(1))).to.equal(MiB)
    await quiet()
    expect(ready()).to.deep.equal([])
    expect(reads).to.deep.equal([])
  })

  it('does not write through a link that lies where a draft comes', async () => {
    store(1, MiB)
    const victim = path.join(directory, 'victim')
    writeFileSync(victim, 'kept')
    symlinkSync(victim, path.join(directory, 'ready', name(1)))
    expect(await wal.wanted(name(1))).to.equal(MiB)
    expect(readFileSync(victim, 'utf8')).to.equal('kept')
    expect(readFileSync(path.join(directory, 'ready', name(1)), 'latin1')).to.equal('1'.repeat(MiB))
  })

  it('leaves nothing when it is cleared, also of segments being fetched', async () => {
    store(9, MiB)
    for (const segment of [1, 2]) await take(name(segment))
    await quiet()
    const opened = Promise.withResolvers<void>()
    gate = opened.promise
    const waiting = wal.wanted(name(7))
    await sleep(20)
    await wal.clear()
    opened.resolve()
    expect(await waiting).to.equal(MiB)
    await quiet()
    expect(ready()).to.deep.equal([])
    expect(drafts()).to.deep.equal([])
  })

  describe('that the archive transfers as they are stored', () => {
    /** Bytes that do not compress to nothing. */
    const plain = Buffer.from(
      Uint32Array.from({ length: MiB / 4 }, (_, at) => Math.imul(at, 2654435761) >>> 9).buffer,
    )
    const sha1 = createHash('sha1').update(plain).digest('hex')
    const lying = (): Buffer => readFileSync(path.join(directory, 'ready', name(1)))

    for (const [compression, compress] of [
      ['gz', gzipSync],
      ['zst', zstdCompressSync],
    ] as const) {
      it(`decodes ${compression}, and reads nothing else`, async () => {
        for (const segment of [1, 2]) {
          stored.set(name(segment), { contents: compress(plain), compression, sha1 })
        }
        expect(await wal.wanted(name(1))).to.equal(MiB)
        expect(lying().equals(plain)).to.equal(true)
        await quiet()
        expect(ready()).to.deep.equal([name(1), name(2)])
        expect(new Set(reads)).to.deep.equal(new Set([`${name(1)} stored`, `${name(2)} stored`]))
      })
    }

    const flipped = (bytes: Buffer): Buffer => {
      const copy = Buffer.from(bytes)
      copy[copy.length >> 1] = (copy[copy.length >> 1] ?? 0) ^ 0xff
      return copy
    }
    for (const [what, contents, expected] of [
      ['is cut', gzipSync(plain).subarray(0, 5000), sha1],
      ['has a byte that flipped', flipped(gzipSync(plain)), sha1],
      ['is not what its checksum says', gzipSync(plain), 'ab'.repeat(20)],
      ['is no compressed file', plain, undefined],
      ['decodes to what is no segment', gzipSync(plain.subarray(1)), undefined],
    ] as const) {
      it(`does not make one ready that ${what}`, async () => {
        archive.set(name(1), MiB)
        stored.set(name(1), { contents, compression: 'gz', ...(expected && { sha1: expected }) })
        expect(await wal.wanted(name(1))).to.equal(MiB)
        await quiet()
        expect(ready()).to.deep.equal([])
        expect(drafts()).to.deep.equal([])
      })
    }

    it('ends one that is larger than those before it at their size', async () => {
      stored.set(name(1), { contents: gzipSync(plain), compression: 'gz' })
      stored.set(name(2), { contents: gzipSync(Buffer.alloc(256 * MiB)), compression: 'gz' })
      await take(name(1))
      await quiet()
      expect(ready()).to.deep.equal([])
      expect(drafts()).to.deep.equal([])
    })
  })

  it('does not make half a segment ready, though its size is one that segments may have', async () => {
    for (const [segment, size] of [MiB * 2, MiB].entries()) archive.set(name(segment), size)
    expect(await wal.wanted(name(0))).to.equal(MiB * 2)
    expect(await wal.wanted(name(1))).to.equal(MiB)
    expect(existsSync(path.join(directory, 'ready', name(1)))).to.equal(false)
  })

  it('passes through names that are not segments', async () => {
    archive.set('00000002.history', 41).set(name(1), 12_345)
    expect(await wal.wanted('00000002.history')).to.equal(41)
    expect(await wal.wanted(name(1))).to.equal(12_345)
    expect(reads).to.deep.equal([])
  })
})
