/** Write caches on each file system that can be made here, with longer sequences, and the conformance suite. */
import { mountConforms } from '../filesystem/conformance/suite.ts'
import { cacheWorks } from '../filesystem/support/cache-works.ts'
import {
  FILE_SYSTEMS,
  type FileSystemName,
  type MadeFileSystem,
  makeFileSystem,
} from '../support/file-systems.ts'

const names = (Object.keys(FILE_SYSTEMS) as FileSystemName[]).filter((name) => name !== 'btrfs with a quota')

for (const name of names) {
  describe(`a write cache on ${name}`, function () {
    this.timeout(600_000)

    describe('is like a local directory:', () => {
      let made: MadeFileSystem
      before(async () => {
        made = await makeFileSystem(name)
      })
      mountConforms('kernel', () => ({ parent: made.directory }))
      // Declared after the hook that unmounts what is on it.
      after(() => made?.remove())
    })

    describe('in longer sequences', () =>
      cacheWorks(name, { operations: 5000, seed: Date.now() % 1_000_000 }))
  })
}
