import { expect } from 'chai'
import { runInTurns, sortedInTurns, visitInTurns } from '../../agents/mount/formats/turns.ts'

const ITEMS = 23_456

describe('long computations in turns', () => {
  it('sort as a sort at once does, and keep the order of equal items', async () => {
    const items = Array.from({ length: ITEMS }, (_, index) => ({ key: (index * 7919) % 1009, index }))
    const compare = (a: { key: number }, b: { key: number }) => a.key - b.key
    expect(await sortedInTurns(items, compare)).to.deep.equal(items.toSorted(compare))
    for (const length of [0, 1, 4_999, 5_000, 5_001, 10_000, 15_001])
      expect(await sortedInTurns(items.slice(0, length), compare)).to.deep.equal(
        items.slice(0, length).toSorted(compare),
      )
  })

  it('visit each item once, in order', async () => {
    const visited: number[] = []
    await visitInTurns([...Array(ITEMS).keys()], (item, index) => {
      expect(item).to.equal(index)
      visited.push(item)
    })
    expect(visited).to.have.length(ITEMS)
  })

  it('let others have a turn in between', async () => {
    let turns = 0
    const timer = setInterval(() => {
      turns += 1
    }, 0)
    const until = performance.now() + 100
    const spin = (): void => {
      const end = performance.now() + 5
      while (performance.now() < end);
    }
    try {
      await runInTurns(
        (function* () {
          while (performance.now() < until) yield spin()
        })(),
      )
      expect(turns).to.be.greaterThan(5)
    } finally {
      clearInterval(timer)
    }
  })
})
