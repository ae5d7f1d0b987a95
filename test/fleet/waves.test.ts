/** The waves of an upgrade: how large they are, and that none begins after one that is not well. */
import { expect } from 'chai'
import { inWaves, parseBatchSize, wavesOf } from '../../coordinator/fleet/install/waves.ts'

const HOSTS = Array.from({ length: 25 }, (_, index) => `db-${index}`)

describe('Waves', () => {
  it('have as many hosts as were asked for, or a share of all, one at least', () => {
    const sizes = (text: string, hosts = HOSTS): number[] => {
      const batch = parseBatchSize(text)
      return batch === undefined ? [] : wavesOf(hosts, batch).map(({ length }) => length)
    }
    expect(sizes('10')).to.deep.equal([10, 10, 5])
    expect(sizes('10%')).to.deep.equal(Array(12).fill(2).concat(1))
    expect(sizes('1%')).to.deep.equal(Array(25).fill(1))
    expect(sizes('100%')).to.deep.equal([25])
    expect(sizes('5', [])).to.deep.equal([])
    expect(['0', '0%', '101%', '-1', '1.5', 'all', ''].map(parseBatchSize)).to.deep.equal(
      Array(7).fill(undefined),
    )
  })

  it('end with the one in which a host is not well; its other hosts are done all the same', async () => {
    const begun: string[][] = []
    const outcome = await inWaves(
      [['a', 'b'], ['c', 'd', 'e'], ['f'], ['g']],
      async (host) => {
        await Promise.resolve()
        if (host === 'd') throw new Error('not well')
      },
      (wave) => begun.push([...wave]),
    )
    expect(begun).to.deep.equal([
      ['a', 'b'],
      ['c', 'd', 'e'],
    ])
    expect(outcome.done).to.deep.equal(['a', 'b', 'c', 'e'])
    expect(outcome.failed.map(({ host, error }) => [host, (error as Error).message])).to.deep.equal([
      ['d', 'not well'],
    ])
    expect(outcome.untouched).to.deep.equal(['f', 'g'])
  })

  it('change the hosts of a wave at the same time, and one wave after the other', async () => {
    let running = 0
    let most = 0
    await inWaves(
      wavesOf(HOSTS, { hosts: 4 }),
      async () => {
        most = Math.max(most, ++running)
        await new Promise((resolve) => setImmediate(resolve))
        running -= 1
      },
      () => expect(running).to.equal(0),
    )
    expect(most).to.equal(4)
  })
})
