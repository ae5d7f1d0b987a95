/** One suite for all drivers: what a local directory does, a mount does. */
import { DRIVERS } from '../support/mounted.ts'
import { mountConforms } from './suite.ts'

for (const driver of DRIVERS) {
  describe(`a mount by ${driver} is like a local directory:`, () => {
    mountConforms(driver)
  })
}
