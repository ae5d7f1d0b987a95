import { expect } from 'chai'
import {
  REPEAT_LOST_MS,
  REPEAT_MS,
  REPEAT_SETTLED_MS,
  REPEAT_TROUBLE_MS,
} from '../../agents/target/session/repetition.ts'
import {
  type FreshUsage,
  isSettled,
  USAGE_EVERY_MS,
  usageIsDue,
} from '../../agents/target/session/usage-reports.ts'
import { LASTING_MS, OBSERVATIONS } from '../../messages/topology.ts'
import type { Usage } from '../../messages/values.ts'

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

  const isDue = (last: Usage, now: FreshUsage, sinceMs: number, lasts = true): boolean =>
    usageIsDue({ usage: last, sinceMs, lasts }, now)

  it('waits for others as long as little has changed', () => {
    const now = { ...before, fetchedBytes: 900 * MIB, changedBytes: 20 * MIB, cacheBytes: 20 * MIB }
    expect(isDue(before, now, USAGE_EVERY_MS - 1)).to.equal(false)
    expect(isDue(before, now, USAGE_EVERY_MS)).to.equal(true)
  })

  it('is made at once when much of the quota or of the free space went or came back', () => {
    expect(isDue(before, { ...before, changedBytes: 31 * MIB }, 0)).to.equal(true)
    expect(isDue(before, { ...before, freeBytes: 4800 * MIB }, 0)).to.equal(true)
    expect(isDue(before, { ...before, freeBytes: 5200 * MIB }, 0)).to.equal(true)
  })

  it('is made at once when there is more than twice as much that was changed', () => {
    const without = { ...before, quotaBytes: null }
    expect(isDue({ ...without, changedBytes: 0 }, { ...without, changedBytes: 9 * MIB }, 0)).to.equal(true)
    expect(isDue(without, { ...without, changedBytes: 19 * MIB }, 0)).to.equal(false)
    expect(isDue(without, { ...without, changedBytes: 21 * MIB }, 0)).to.equal(true)
  })

  it('is not made when nothing has changed but a little free space', () => {
    const now = { ...before, freeBytes: before.freeBytes - 7 * MIB }
    expect(isDue(before, now, 10 * USAGE_EVERY_MS)).to.equal(false)
  })

  it('is made once more soon after the last change, and lasts then', () => {
    expect(isDue(before, before, REPEAT_SETTLED_MS - 1, false)).to.equal(false)
    expect(isDue(before, before, REPEAT_SETTLED_MS, false)).to.equal(true)
    expect(isSettled(before, { ...before, freeBytes: 1 })).to.equal(true)
    expect(isSettled(before, { ...before, fetchedBytes: 101 * MIB })).to.equal(false)
  })

  it('is there until the next one comes, as all that is told again and again', () => {
    const lives = OBSERVATIONS as Record<string, number>
    expect(REPEAT_SETTLED_MS).to.be.below(lives['session.usage'] ?? 0)
    expect(REPEAT_LOST_MS).to.be.below(lives['session.lost'] ?? 0)
    for (const life of [LASTING_MS, lives['session.changes'], lives['session.reachability']]) {
      expect(Math.max(REPEAT_MS, REPEAT_TROUBLE_MS)).to.be.below(life ?? 0)
    }
  })

  it('is made again after long although nothing has changed, since the last one may have got lost', () => {
    expect(isDue(before, before, REPEAT_MS - 1)).to.equal(false)
    expect(isDue(before, before, REPEAT_MS)).to.equal(true)
  })
})
