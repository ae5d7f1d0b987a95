import { expect } from 'chai'
import { createOrphans } from '../../agents/runtime/orphans.ts'

describe('the orphans of a session', () => {
  it('are waited for until every one of them has ended, also one that ends after a later one', async () => {
    const orphans = createOrphans()
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const order: string[] = []
    orphans.add('s1', first.promise)
    orphans.add('s1', second.promise)
    const ended = orphans.of('s1')?.then(() => order.push('all ended'))
    second.resolve()
    await new Promise(setImmediate)
    order.push('first ends')
    first.resolve()
    await ended
    expect(order).to.deep.equal(['first ends', 'all ended'])
  })

  it('are forgotten once they have ended', async () => {
    const orphans = createOrphans()
    orphans.add('s1', Promise.resolve())
    await orphans.of('s1')
    expect(orphans.of('s1')).to.equal(undefined)
  })

  it('are none of another session', () => {
    const orphans = createOrphans()
    orphans.add('s1', Promise.resolve())
    expect(orphans.of('s2')).to.equal(undefined)
  })
})
