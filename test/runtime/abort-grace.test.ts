import { expect } from 'chai'
import { settledWithinGrace } from '../../agents/runtime/abort-grace.ts'

const FOREVER_MS = 3_600_000
const outcome = { ok: true }

describe('the grace that an aborted step has to end', () => {
  it('does not run before the step is aborted', async () => {
    const { promise, resolve } = Promise.withResolvers<typeof outcome>()
    const settled = settledWithinGrace(promise, new AbortController().signal, 0)
    setImmediate(() => resolve(outcome))
    expect(await settled).to.equal(outcome)
  })

  it('gives the outcome of a step that ends because it was aborted', async () => {
    const { promise, resolve } = Promise.withResolvers<typeof outcome>()
    const abort = new AbortController()
    abort.signal.addEventListener('abort', () => resolve(outcome))
    const settled = settledWithinGrace(promise, abort.signal, FOREVER_MS)
    abort.abort()
    expect(await settled).to.equal(outcome)
  })

  it('ends without an outcome where the step ignores its abort signal', async () => {
    expect(await settledWithinGrace(new Promise<never>(() => {}), AbortSignal.abort(), 1)).to.equal(undefined)
  })
})
