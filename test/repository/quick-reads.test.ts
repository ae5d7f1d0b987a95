/** When a small read is done at once, on the event loop. */
import { expect } from 'chai'
import { createQuickReads } from '../../agents/mount/spool/quick-reads.ts'

describe('a small read', () => {
  /** Reads that take so long, ms, each begun when the one before it ended; says which were done at once. */
  function attempts(durations: readonly number[], pause = 0): boolean[] {
    let time = 0
    const reads = createQuickReads(() => time)
    return durations.map((duration) => {
      const done = reads.attempt(8192, () => {
        time += duration
        return true
      })
      time += pause
      return done === true
    })
  }

  it('is done synchronously while reads are quick', () => {
    expect(attempts([0.01, 0.05, 0.01])).to.deep.equal([true, true, true])
  })

  it('goes to the thread pool after one that came from the disk, and is tried again later', () => {
    expect(attempts([0.01, 0.5, 0.01, 0.01], 40)).to.deep.equal([true, true, false, true])
    expect(attempts([60, 0.01, 0.01, 0.01], 40)).to.deep.equal([true, false, false, true])
  })

  it('is not done synchronously when it is large', () => {
    expect(createQuickReads().attempt(1024 * 1024, () => true)).to.equal(undefined)
  })
})
