/** Which reads are a scan, and how far to be ahead of it. */
import { expect } from 'chai'
import { advance, type ReadStream } from '../../../agents/target/filesystem/reads/read-ahead.ts'

const KIB = 1024
const MIB = 1024 * KIB
const SIZE = 1024 * MIB

/** Reads `length` bytes at each position; gives what was read ahead. */
function read(streams: ReadStream[], positions: readonly number[], length: number, size = SIZE) {
  return positions
    .map((position) => advance(streams, position, position + length, size))
    .filter((ahead) => ahead !== undefined)
}

function scan(from: number, length: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => from + index * length)
}

describe('reading ahead', () => {
  it('does nothing for random reads', () => {
    const positions = Array.from({ length: 200 }, (_, index) => ((index * 7919) % 1000) * MIB)
    expect(read([], positions, 8 * KIB)).to.deep.equal([])
  })

  it('does nothing for the same bytes read again', () => {
    expect(read([], scan(5 * MIB, 0, 10), 8 * KIB)).to.deep.equal([])
  })

  it('is soon megabytes ahead of a scan, without gaps or repeated requests', () => {
    const streams: ReadStream[] = []
    const aheads = read(streams, scan(0, 128 * KIB, 64), 128 * KIB)
    for (const [index, { from }] of aheads.entries()) {
      if (index > 0) expect(from).to.equal(aheads[index - 1]?.to)
    }
    expect((aheads.at(-1)?.to ?? 0) - 64 * 128 * KIB).to.be.at.least(4 * MIB)
    expect(aheads.length).to.be.lessThan(20)
  })

  it('stops at the end of the file, and brings its rest at once', () => {
    const aheads = read([], scan(0, 128 * KIB, 8), 128 * KIB, MIB + 5)
    expect(aheads.at(-1)?.to).to.equal(MIB + 5)
  })

  it('follows a scan whose requests overtake each other', () => {
    const positions = scan(0, 128 * KIB, 64).flatMap((position, index, all) =>
      index % 2 === 0 ? [all[index + 1] ?? position, position] : [],
    )
    const aheads = read([], positions, 128 * KIB)
    expect((aheads.at(-1)?.to ?? 0) - 64 * 128 * KIB).to.be.at.least(4 * MIB)
  })

  it('follows several scans of one file at once', () => {
    const streams: ReadStream[] = []
    const starts = [0, 200 * MIB, 400 * MIB, 600 * MIB]
    const reached = new Map<number, number>()
    for (let step = 0; step < 64; step++) {
      for (const start of starts) {
        const position = start + step * 128 * KIB
        const ahead = advance(streams, position, position + 128 * KIB, SIZE)
        if (ahead !== undefined) reached.set(start, ahead.to)
      }
    }
    for (const start of starts) expect((reached.get(start) ?? 0) - start).to.be.at.least(12 * MIB)
  })

  it('keeps following a scan between random touches', () => {
    const streams: ReadStream[] = []
    let reached = 0
    for (let step = 0; step < 64; step++) {
      const ahead = advance(streams, step * 128 * KIB, (step + 1) * 128 * KIB, SIZE)
      reached = ahead?.to ?? reached
      const touch = (100 + ((step * 7919) % 900)) * MIB
      advance(streams, touch, touch + 8 * KIB, SIZE)
    }
    expect(reached).to.be.at.least(12 * MIB)
  })
})
