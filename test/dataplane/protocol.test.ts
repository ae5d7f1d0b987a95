/** Frames and tree batches as bytes: what is encoded is decoded unchanged, and malformed input is refused. */
import { PassThrough } from 'node:stream'
import { expect } from 'chai'
import fc from 'fast-check'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { FrameParser, FrameWriter } from '../../agents/dataplane/protocol/frames.ts'
import {
  decodeError,
  encodeError,
  encodeHeader,
  FRAME,
  HEADER_BYTES,
  SERVER_FRAMES,
} from '../../agents/dataplane/protocol/protocol.ts'
import {
  decodeRead,
  decodeSize,
  decodeStored,
  decodeWalRead,
  encodeRead,
  encodeSize,
  encodeStored,
  encodeWalRead,
  isWalName,
} from '../../agents/dataplane/protocol/read-codec.ts'
import { decodeTreeBatch, encodeTreeBatch } from '../../agents/dataplane/protocol/tree-codec.ts'
import { HowdahError } from '../../messages/errors.ts'

const body = (frame: Buffer) => frame.subarray(HEADER_BYTES)

describe('data plane frames', () => {
  it('are recognised however the stream is split', () => {
    const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 })
    const cuts = fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1 })
    fc.assert(
      fc.property(payloads, cuts, (sent, sizes) => {
        const stream = Buffer.concat(
          sent.flatMap((payload, id) => [encodeHeader(FRAME.data, id, payload.length), payload]),
        )
        const got: { id: number; payload: Uint8Array }[] = []
        const parser = new FrameParser(SERVER_FRAMES, (_, id, payload) => got.push({ id, payload }))
        for (let at = 0, n = 0; at < stream.length; n++) {
          const end = at + (sizes[n % sizes.length] ?? 1)
          const chunk = Buffer.from(stream.subarray(at, end))
          parser.push(chunk)
          chunk.fill(0)
          at = end
        }
        expect(got.map(({ id }) => id)).to.deep.equal(sent.map((_, id) => id))
        got.forEach(({ payload }, n) => {
          expect(Buffer.compare(payload, sent[n] ?? new Uint8Array())).to.equal(0)
        })
      }),
    )
  })

  it('leave in the order they were sent, large among small', async () => {
    const pipe = new PassThrough()
    const writer = new FrameWriter(pipe)
    const sizes = Array.from({ length: 60 }, (_, n) => (n % 7 === 3 ? 300_000 : n * 50))
    const got: number[] = []
    const done = new Promise<void>((resolve) => {
      const parser = new FrameParser(SERVER_FRAMES, (_, id, payload) => {
        expect(payload.length).to.equal(sizes[id])
        if (payload.length > 0) expect(payload[payload.length - 1]).to.equal(id)
        got.push(id)
        if (got.length === sizes.length) resolve()
      })
      pipe.on('data', (chunk: Buffer) => parser.push(chunk))
    })
    sizes.forEach((size, id) => {
      writer.send(encodeHeader(FRAME.data, id, size), Buffer.alloc(size, id))
    })
    await done
    expect(got).to.deep.equal(sizes.map((_, id) => id))
    expect(writer.pendingBytes).to.equal(0)
  })

  it('carry numbers up to 48 bits and refuse those beyond', () => {
    const most = 2 ** 48 - 1
    expect(decodeRead(body(encodeRead(1, most, most, 7)))).to.deep.equal({
      file: most,
      offset: most,
      length: 7,
    })
    expect(decodeSize(body(encodeSize(1, most)))).to.equal(most)
    expect(decodeSize(body(encodeSize(1, undefined)))).to.equal(undefined)
    for (const bad of [most + 1, -1, 0.5, Number.NaN]) {
      expect(() => encodeRead(1, bad, 0, 1)).to.throw(HowdahError)
      expect(() => encodeRead(1, 0, bad, 1)).to.throw(HowdahError)
    }
  })

  it('carry WAL names, and no other names', () => {
    const name = '00000001000000000000000A'
    for (const type of [FRAME.walRead, FRAME.walReadStored] as const) {
      const request = { name, offset: 5, length: 6 }
      expect(decodeWalRead(body(encodeWalRead(type, 1, request)))).to.deep.equal(request)
    }
    for (const good of [name, '00000002.history', `${name}.partial`, `${name}.00000028.backup`]) {
      expect(isWalName(good), good).to.equal(true)
    }
    for (const bad of ['', '..', `${name}/..`, `${name}\n`, name.toLowerCase(), `${name}.gz`]) {
      expect(isWalName(bad), bad).to.equal(false)
      expect(() =>
        decodeWalRead(body(encodeWalRead(FRAME.walRead, 1, { name: bad, offset: 0, length: 1 }))),
      ).to.throw(HowdahError)
    }
  })

  it('carry how WAL is stored, and refuse anything else', () => {
    const sha1 = '0123456789abcdef0123456789abcdef01234567'
    for (const stored of [
      undefined,
      { bytes: 3, compression: 'gz', sha1 },
      { bytes: 2 ** 48 - 1, compression: 'zst', sha1: undefined },
    ] as const) {
      expect(decodeStored(body(encodeStored(1, stored)))).to.deep.equal(stored)
    }
    for (const bad of [
      Buffer.alloc(1),
      Buffer.alloc(6),
      Buffer.alloc(8),
      Buffer.from([0, 0, 0, 0, 0, 1, 9]),
    ]) {
      expect(() => decodeStored(bad)).to.throw(HowdahError)
    }
  })

  it('carry errors with everything a person needs, truncated only when enormous', () => {
    const error = new HowdahError('backup_damaged', 'base/1/2 is torn', {
      field: 'backup',
      details: [{ code: 'internal', message: 'x' }],
    })
    expect(decodeError(body(encodeError(1, error.toBody()))).toBody()).to.deep.equal(error.toBody())
    const enormous = encodeError(1, { code: 'internal', message: 'é'.repeat(1_000_000) })
    expect(decodeError(body(enormous)).message.length).to.equal(4096)
    expect(() => decodeError(Buffer.from('{"code":"nonsense","message":""}'))).to.throw(HowdahError)
  })
})

describe('tree batches', () => {
  const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((text) => {
    return !/[/\0]|^\.\.?$/.test(text) && text.isWellFormed()
  })
  const path = fc.array(name, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'))
  const base = {
    path,
    mode: fc.integer({ min: 0, max: 0o7777 }),
    mtime: fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => n + 0),
  }
  const entry: fc.Arbitrary<TreeEntry> = fc.oneof(
    fc.record({ ...base, kind: fc.constant('directory' as const), size: fc.constant(0) }),
    fc.record({ ...base, kind: fc.constant('file' as const), size: fc.constant(0) }),
    fc.record({ ...base, kind: fc.constant('file' as const), size: fc.maxSafeNat(), file: fc.maxSafeNat() }),
    fc.record({
      ...base,
      kind: fc.constant('symlink' as const),
      size: fc.constant(0),
      linkTarget: fc.string({ unit: 'grapheme' }).filter((text) => text.isWellFormed()),
    }),
  )

  it('are decoded as they were encoded', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 40 }), (entries) => {
        const got: TreeEntry[] = []
        while (got.length < entries.length) {
          const { payload, count } = encodeTreeBatch(entries, got.length)
          expect(count).to.be.greaterThan(0)
          got.push(...decodeTreeBatch(payload))
        }
        expect(got).to.deep.equal(entries)
      }),
    )
  })

  it('refuse paths that lead outside of the backup', () => {
    for (const bad of ['', '/etc', 'data/../..', '..', 'data//x', 'data/', './data', 'data/.', 'a\0b']) {
      const { payload } = encodeTreeBatch(
        [{ path: bad, kind: 'directory', mode: 0o700, mtime: 0, size: 0 }],
        0,
      )
      expect(() => decodeTreeBatch(payload), JSON.stringify(bad)).to.throw(HowdahError)
    }
  })

  it('are refused or decoded, but never hang or crash, for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeTreeBatch(Buffer.from(bytes))
        } catch (error) {
          expect(error).to.be.instanceOf(HowdahError)
        }
      }),
    )
  })
})
