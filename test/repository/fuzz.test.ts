/** Some runs of each property of fuzz.ts; `npm run soak -- fuzz` makes many. */
import fc from 'fast-check'
import { PGBACKREST_FUZZ } from './fuzz.ts'

describe('what a hostile repository can contain', function () {
  this.timeout(30_000)

  for (const [name, property] of Object.entries(PGBACKREST_FUZZ)) {
    it(name, async () => {
      await fc.assert(property, { numRuns: 150 })
    })
  }
})
