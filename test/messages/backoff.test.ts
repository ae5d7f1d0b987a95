import { expect } from 'chai'
import { backoffMs } from '../../messages/backoff.ts'

const POLICY = { firstMs: 100, maxMs: 1_000 }

describe('the delay before another attempt', () => {
  it('doubles with each failure up to the cap', () => {
    const delays = [1, 2, 3, 4, 5, 1_000].map((attempt) => backoffMs(attempt, POLICY, () => 0))
    expect(delays).to.deep.equal([100, 200, 400, 800, 1_000, 1_000])
  })

  it('is shortened at random by up to a half, and never longer than the cap', () => {
    const delays = [0, 0.5, 1].map((random) => backoffMs(9, POLICY, () => random))
    expect(delays).to.deep.equal([1_000, 750, 500])
  })

  it('can be spread around its mean instead, by up to a quarter', () => {
    const delays = [0, 0.5, 1].map((random) => backoffMs(9, { ...POLICY, jitter: 'spread' }, () => random))
    expect(delays).to.deep.equal([750, 1_000, 1_250])
  })
})
