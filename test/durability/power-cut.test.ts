import { expect } from 'chai'
import type { Services } from '../../agents/target/filesystem/services.ts'
import { runFetchedCuts } from './support/fetched-cut.ts'
import { runPowerCuts } from './support/power-cut.ts'

/** The soak judges many thousands: `npm run soak -- power-cut`. */
const CUTS = 600
const SEED = 20_250_102

describe('a power cut', function () {
  this.timeout(180_000)

  it('leaves synced data, the old or the new of everything else, and a usable write cache', async () => {
    const { counterexample, cuts } = await runPowerCuts({ cuts: CUTS, seed: SEED })
    expect(counterexample, JSON.stringify(counterexample)).to.equal(undefined)
    expect(cuts).to.be.at.least(CUTS)
  })

  it('never makes the fetched store list a block whose bytes are not the backup’s', async () => {
    const { cuts, wrong } = await runFetchedCuts({ cuts: 24, seed: SEED })
    expect(wrong).to.equal(undefined)
    expect(cuts).to.be.at.least(24)
  })

  describe('as this test would find it', () => {
    const spoiled = async (spoil: (services: Services) => Services): Promise<string | undefined> => {
      const { counterexample } = await runPowerCuts({ cuts: 5000, seed: SEED, spoil, shrinkMs: 0 })
      return counterexample?.wrong
    }

    it('loses data when syncs are reported before they are done', async () => {
      const wrong = await spoiled((services) => ({ ...services, sync: async () => undefined }))
      expect(wrong).to.match(/no moment|cannot be read|its size/)
    })

    it('loses files when the names of new local files are not synced', async () => {
      const wrong = await spoiled((services) => ({ ...services, syncDirectory: async () => undefined }))
      expect(wrong).to.match(/no moment|cannot be read|its size/)
    })

    it('loses names when commits are reported durable before they are', async () => {
      const wrong = await spoiled((services) => ({
        ...services,
        commit: async (batch) => void services.commit(batch),
      }))
      expect(wrong).to.match(/no moment|cannot be read|its size/)
    })
  })
})
