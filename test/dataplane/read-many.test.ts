/** Many ranges in one request: their order, what is left out, interruptions, and limits. */
import { expect } from 'chai'
import type { FileRange, RangeData } from '../../agents/dataplane/backup-source.ts'
import { HEADER_BYTES, MAX_RANGES, MAX_RANGES_BYTES } from '../../agents/dataplane/protocol/protocol.ts'
import { decodeReadMany, encodeReadMany } from '../../agents/dataplane/protocol/ranges-codec.ts'
import { readRanges } from '../../agents/dataplane/server/read-ranges.ts'
import { HowdahError } from '../../messages/errors.ts'
import { expectFailure, until, useDataPlane } from './fixture.ts'
import { createMemorySource, expectedBytes, FILE_BYTES } from './memory-source.ts'

const MIB = 1024 * 1024

async function collect(stream: AsyncIterable<RangeData>): Promise<RangeData[]> {
  const pieces: RangeData[] = []
  for await (const piece of stream) pieces.push(piece)
  return pieces
}

/** Expects the pieces to be those of these ranges, all of them and in order. */
function expectRanges(pieces: readonly RangeData[], ranges: readonly FileRange[]): void {
  const rest = [...pieces]
  for (const { file, offset, length } of ranges) {
    for (let at = offset; at < Math.min(offset + length, FILE_BYTES); ) {
      const piece = rest.shift()
      if (piece === undefined) throw new Error(`nothing of file ${file} at ${at}`)
      expect([piece.file, piece.offset]).to.deep.equal([file, at])
      expect(piece.data.length).to.be.within(1, Math.min(MIB, offset + length - at))
      expect(piece.data.equals(expectedBytes(file, at, piece.data.length))).to.equal(true)
      at += piece.data.length
    }
  }
  expect(rest.length).to.equal(0)
}

const blocks = (count: number, length = 8192): FileRange[] =>
  Array.from({ length: count }, (_, n) => ({ file: n % 50, offset: (n * 65_536) % FILE_BYTES, length }))

describe('reading many ranges', function () {
  this.timeout(30_000)
  const plane = useDataPlane()

  it('returns them in the order of the request, whichever is read first', async () => {
    const source = createMemorySource({
      beforeRead: () => new Promise((resolve) => setTimeout(resolve, Math.random() * 4)),
    })
    const client = plane.connect(await plane.serve(source))
    const ranges = blocks(500)
    expectRanges(await collect(client.readMany(ranges)), ranges)
  })

  it('returns long ranges in pieces, and fewer bytes where the file ends', async () => {
    const client = plane.connect(await plane.serve(createMemorySource()))
    const ranges = [
      { file: 1, offset: 100, length: 5 * MIB },
      { file: 2, offset: FILE_BYTES - 10, length: 8192 },
      { file: 3, offset: FILE_BYTES, length: 8192 },
      { file: 4, offset: 5, length: 0 },
      { file: 5, offset: 0, length: 1 },
    ]
    expectRanges(await collect(client.readMany(ranges)), ranges)
  })

  it('returns nothing for no ranges', async () => {
    const client = plane.connect(await plane.serve(createMemorySource()))
    expect(await collect(client.readMany([]))).to.deep.equal([])
  })

  it('accepts more and longer ranges than one request may have', async () => {
    const client = plane.connect(await plane.serve(createMemorySource()))
    const many = blocks(MAX_RANGES * 2 + 5, 100)
    expectRanges(await collect(client.readMany(many)), many)
    let bytes = 0
    const long = Array.from({ length: 10 }, (_, file) => ({ file, offset: 0, length: FILE_BYTES }))
    for await (const { data } of client.readMany(long)) bytes += data.length
    expect(bytes)
      .to.equal(10 * FILE_BYTES)
      .and.greaterThan(MAX_RANGES_BYTES)
  })

  it('leaves out what cannot be read', async () => {
    const source = createMemorySource({
      beforeRead: (file, offset) => {
        if (file === 3) throw new HowdahError('backup_damaged', 'File 3 is damaged.')
        if (file === 4 && offset >= MIB) throw new HowdahError('backup_damaged', 'File 4 ends early.')
      },
    })
    const client = plane.connect(await plane.serve(source))
    const ranges = blocks(100)
    const cut = { file: 4, offset: 0, length: 3 * MIB }
    expectRanges(await collect(client.readMany([cut, ...ranges])), [
      { ...cut, length: MIB },
      ...ranges.filter(({ file, offset }) => file !== 3 && (file !== 4 || offset < MIB)),
    ])
  })

  it('resumes where a restart of the server interrupted it', async () => {
    const first = await plane.serve(createMemorySource())
    const client = plane.connect(first)
    const ranges = Array.from({ length: 12 }, (_, file) => ({ file, offset: 7, length: 3 * MIB }))
    const pieces: RangeData[] = []
    for await (const piece of client.readMany(ranges)) {
      pieces.push(piece)
      if (pieces.length !== 5) continue
      await first.close()
      await until(() => !client.connected)
      await plane.serve(createMemorySource(), { port: first.address.port })
    }
    expectRanges(pieces, ranges)
  })

  it('requests what is missing again while the repository is unavailable', async () => {
    let away = true
    const source = createMemorySource()
    const client = plane.connect(
      await plane.serve({
        ...source,
        async *readMany(ranges, signal) {
          for await (const piece of source.readMany(ranges, signal)) {
            if (away && piece.file === 3) {
              away = false
              throw new HowdahError('repository_unavailable', 'The disk is away.')
            }
            yield piece
          }
        },
      }),
    )
    const ranges = Array.from({ length: 6 }, (_, file) => ({ file, offset: 0, length: 2 * MIB }))
    expectRanges(await collect(client.readMany(ranges)), ranges)
    expect(away).to.equal(false)
  })

  it('stops the reads of the source when the caller aborts', async () => {
    let stopped = 0
    const source = createMemorySource({
      beforeRead: (file, _offset, signal) => {
        if (file === 0) return
        return new Promise((_, reject) => {
          signal?.addEventListener('abort', () => {
            stopped += 1
            reject(signal.reason as Error)
          })
        })
      },
    })
    const client = plane.connect(await plane.serve(source))
    const ranges = [0, 1, 2].map((file) => ({ file, offset: 0, length: 8192 }))

    const controller = new AbortController()
    const reason = new Error('no longer wanted')
    const outcome = collect(client.readMany(ranges, controller.signal)).catch((error: unknown) => error)
    await client.read(0, 0, 10)
    controller.abort(reason)
    expect(await outcome).to.equal(reason)

    for await (const piece of client.readMany(ranges)) {
      expect(piece.file).to.equal(0)
      break
    }
    await until(() => stopped === 4)
    expect((await client.read(0, 0, 10)).length).to.equal(10)
  })

  it('sends and reads no more than its caller consumes', async () => {
    let reads = 0
    const source = createMemorySource({
      beforeRead: () => {
        reads += 1
      },
    })
    const client = plane.connect(await plane.serve(source), { connections: 1 })
    const ranges = Array.from({ length: 8 }, (_, file) => ({ file, offset: 0, length: FILE_BYTES }))
    const stream = client.readMany(ranges)[Symbol.asyncIterator]()
    await stream.next()
    for (let n = 0; n < 20; n++) await client.read(9, 0, MIB)
    // A window on its way, one read ahead, what waits in the socket; not the 64 that were asked for.
    expect(reads - 20).to.be.lessThan(30)
    await stream.return?.()
  })

  it('fails as a whole only when the request itself fails', async () => {
    const client = plane.connect(
      await plane.serve({
        ...createMemorySource(),
        // biome-ignore lint/correctness/useYield: it fails before the first piece
        async *readMany() {
          throw new HowdahError('backup_damaged', 'The backup is gone.')
        },
      }),
    )
    await expectFailure(collect(client.readMany(blocks(3))), 'backup_damaged')
    await client.close()
    await expectFailure(collect(client.readMany(blocks(3))), 'repository_unavailable')
  })

  it('refuses a request for more than one answer may have', () => {
    const payload = (ranges: readonly FileRange[]) =>
      encodeReadMany(1, { credit: 1, first: 0, ranges }).subarray(HEADER_BYTES)
    const code = (work: () => unknown) => {
      try {
        work()
        return 'none'
      } catch (error) {
        return (error as HowdahError).code
      }
    }
    const most = { file: 1, offset: 0, length: MAX_RANGES_BYTES }
    expect(decodeReadMany(payload([most])).ranges).to.deep.equal([most])
    expect(code(() => decodeReadMany(payload([most, { ...most, length: 1 }])))).to.equal('message_too_large')
    expect(code(() => decodeReadMany(payload([])))).to.equal('invalid_message')
    expect(code(() => decodeReadMany(payload([most]).subarray(1)))).to.equal('invalid_message')
    expect(code(() => payload([{ ...most, offset: 2 ** 48 }]))).to.equal('invalid_message')
  })

  it('reads a bounded number of pieces and bytes ahead of its caller', async () => {
    let reads = 0
    let done = 0
    const read = async (_file: number, _offset: number, length: number) => {
      reads += 1
      await new Promise((resolve) => setTimeout(resolve, 1))
      done += 1
      return Buffer.alloc(length)
    }
    for (const [length, most] of [
      [100, 64],
      [MIB, 8],
    ] as const) {
      reads = done = 0
      const stream = readRanges(
        read,
        Array.from({ length: 200 }, (_, file) => ({ file, offset: 0, length })),
      )
      await stream.next()
      expect(reads).to.equal(most)
      await until(() => done === most)
      expect(reads).to.equal(most)
      await stream.return(undefined)
    }
  })
})
