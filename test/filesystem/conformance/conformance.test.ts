/** One suite for all drivers: what a local directory does, a mount does. */
import { mkdir, writeFile } from 'node:fs/promises'
import { pattern } from '../support/memory-source.ts'
import { DRIVERS } from '../support/mounted.ts'
import { attributesConform } from './attributes.ts'
import { filesConform } from './files.ts'
import { namesConform } from './names.ts'
import { spaceConforms } from './space.ts'
import { conformance } from './support.ts'

for (const driver of DRIVERS) {
  describe(`a mount by ${driver} is like a local directory:`, () => {
    const mount = conformance(driver, async (base) => {
      await mkdir(`${base}/base`)
      await writeFile(`${base}/base/plain`, pattern(300_000, 1))
      await writeFile(`${base}/base/mapped`, pattern(100_000, 2))
    })
    filesConform(mount)
    namesConform(mount)
    attributesConform(mount)
    spaceConforms(mount)
  })
}
