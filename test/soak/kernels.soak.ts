/** Each kernel that is imitated, and each feature of FUSE that a kernel may lack, one at a time. */
import { expect } from 'chai'
import { runKills } from '../durability/support/kill.ts'
import { mountConforms } from '../filesystem/conformance/suite.ts'
import { type ImitatedKernel, KERNELS, kernelsWithout } from '../support/kernels/kernels.ts'

for (const [name, kernel] of Object.entries<ImitatedKernel>({ ...KERNELS, ...kernelsWithout() })) {
  describe(name in KERNELS ? name : `a kernel without ${name}`, function () {
    this.timeout(600_000)

    describe('a mount is like a local directory:', () => mountConforms('kernel', () => ({ kernel })))

    it('a published PostgreSQL loses nothing when its mount process is killed', async () => {
      const { kills, acknowledged } = await runKills({ kills: 2, seed: 20_261_202, kernel })
      expect(kills).to.equal(2)
      expect(acknowledged).to.be.greaterThan(0)
    })
  })
}
