/** The driver where the kernel offers less; the soak has each feature that a kernel may lack: `npm run soak -- kernels`. */
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { KERNELS } from '../../support/kernels/kernels.ts'
import { mountConforms } from './suite.ts'

for (const name of ['Linux 4.18', 'Linux 5.10'] as const) {
  describe(`a mount on ${name}, as the driver sees it, is like a local directory:`, () => {
    const kernel = KERNELS[name]
    const mount = mountConforms('kernel', () => ({ kernel }))

    it('it has agreed to that kernel’s protocol, in which the kernel caches no writes', () => {
      const log = readFileSync(`${mount.scratch.cachePath}/log/mount.log`, 'utf8')
      expect(log).to.include(`"minor":${kernel.minor},"cachesWrites":false`)
    })
  })
}
