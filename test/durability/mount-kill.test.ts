import { expect } from 'chai'
import { KERNELS } from '../support/kernels/kernels.ts'
import { runKills } from './support/kill.ts'

describe('kill -9 of the mount process under load', function () {
  this.timeout(300_000)

  it('loses no acknowledged transaction and damages nothing, each time, and the repository stays as it is', async () => {
    const { kills, acknowledged } = await runKills({ kills: 2, seed: 20_250_103 })
    expect(kills).to.equal(2)
    expect(acknowledged).to.be.greaterThan(0)
  })

  it('loses nothing either where the kernel offers no more than Linux 4.18', async () => {
    const kernel = KERNELS['Linux 4.18']
    const { kills, acknowledged } = await runKills({ kills: 1, seed: 20_261_201, kernel })
    expect(kills).to.equal(1)
    expect(acknowledged).to.be.greaterThan(0)
  })
})
