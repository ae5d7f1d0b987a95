import { expect } from 'chai'
import { REPEAT_MS } from '../../agents/target/session/repetition.ts'
import { USAGE_EVERY_MS, usageIsDue } from '../../agents/target/session/usage-reports.ts'

const MIB = 1024 * 1024

describe('a report of usage', () => {
  const before = {
    fetchedBytes: 100 * MIB,
    totalBytes: 1000 * MIB,
    cacheBytes: 10 * MIB,
    changedBytes: 10 * MIB,
    quotaBytes: 1000 * MIB,
    freeBytes: 5000 * MIB,
  }

  it('waits for others as long as little has changed', () => {
    const now = { ...before, fetchedBytes: 900 * MIB, changedBytes: 20 * MIB, cacheBytes: 20 * MIB }
    expect(usageIsDue(before, now, USAGE_EVERY_MS - 1)).to.equal(false)
    expect(usageIsDue(before, now, USAGE_EVERY_MS)).to.equal(true)
  })

  it('is made at once when much of the quota or of the free space went or came back', () => {
    expect(usageIsDue(before, { ...before, changedBytes: 31 * MIB }, 0)).to.equal(true)
    expect(usageIsDue(before, { ...before, freeBytes: 4800 * MIB }, 0)).to.equal(true)
    expect(usageIsDue(before, { ...before, freeBytes: 5200 * MIB }, 0)).to.equal(true)
  })

  it('is made at once when there is more than twice as much that was changed', () => {
    const without = { ...before, quotaBytes: null }
    expect(usageIsDue({ ...without, changedBytes: 0 }, { ...without, changedBytes: 9 * MIB }, 0)).to.equal(
      true,
    )
    expect(usageIsDue(without, { ...without, changedBytes: 19 * MIB }, 0)).to.equal(false)
    expect(usageIsDue(without, { ...without, changedBytes: 21 * MIB }, 0)).to.equal(true)
  })

  it('is not made when nothing has changed but a little free space', () => {
    const now = { ...before, freeBytes: before.freeBytes - 7 * MIB }
    expect(usageIsDue(before, now, 10 * USAGE_EVERY_MS)).to.equal(false)
  })

  it('is made again after long although nothing has changed, since the last one may have got lost', () => {
    expect(usageIsDue(before, before, REPEAT_MS - 1)).to.equal(false)
    expect(usageIsDue(before, before, REPEAT_MS)).to.equal(true)
  })
})
