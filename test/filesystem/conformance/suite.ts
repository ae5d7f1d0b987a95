/** The suite that every mount passes, whatever its driver, its kernel and the file system of its write cache. */
import { mkdir, writeFile } from 'node:fs/promises'
import type { MountDriver } from '../../../agents/target/mount-process/mount-spec.ts'
import { pattern } from '../support/memory-source.ts'
import type { ScratchPlace } from '../support/mounted.ts'
import { attributesConform } from './attributes.ts'
import { filesConform } from './files.ts'
import { namesConform } from './names.ts'
import { spaceConforms } from './space.ts'
import { type Conformance, conformance } from './support.ts'

/** Declares its tests, which use one mount. `place`: as of `conformance`. */
export function mountConforms(driver: MountDriver, place?: () => ScratchPlace): Conformance {
  const mount = conformance(
    driver,
    async (base) => {
      await mkdir(`${base}/base`)
      await writeFile(`${base}/base/plain`, pattern(300_000, 1))
      await writeFile(`${base}/base/mapped`, pattern(100_000, 2))
    },
    place,
  )
  filesConform(mount)
  namesConform(mount)
  attributesConform(mount)
  spaceConforms(mount)
  return mount
}
