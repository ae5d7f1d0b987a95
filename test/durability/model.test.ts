import { expect } from 'chai'
import { DRIVERS } from './support/drivers.ts'
import { runModel } from './support/model.ts'

/** The soak makes 100,000 and more: `npm run soak -- model`. */
const OPERATIONS = 900
const SEED = 20_250_101

for (const driver of DRIVERS) {
  describe(`a mount by the driver ${driver.name}, beside a plain directory`, function () {
    this.timeout(180_000)

    it('gives the same results of the same system calls, and is the same tree after remounts and crashes', async () => {
      const { counterexample, made } = await runModel({ driver, operations: OPERATIONS, seed: SEED })
      expect(counterexample, JSON.stringify(counterexample)).to.equal(undefined)
      expect(made).to.be.at.least(OPERATIONS)
    })
  })
}
