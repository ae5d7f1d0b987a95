import { walk } from './support/random-walk.ts'

/** More in a soak: `HOWDAH_WALKS=500`. */
const WALKS = Number(process.env.HOWDAH_WALKS ?? 12)

describe('the engine beside its model', function () {
  this.timeout(WALKS * 20_000)

  it('is right after every step, remount and crash of random walks over a fresh backup', async () => {
    for (let seed = 1; seed <= WALKS; seed++) await walk(seed, 150, false)
  })

  it('is right while its timers make things durable', async () => {
    for (let seed = 1001; seed <= 1000 + WALKS; seed++) await walk(seed, 150, true)
  })

  it('is right over a long walk', async () => {
    await walk(424242, 250 * WALKS, false)
  })
})
