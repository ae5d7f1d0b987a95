/** The driver where the kernel offers less; the soak has each feature that a kernel may lack: `npm run soak -- kernels`. */
import { KERNELS } from '../../support/kernels/kernels.ts'
import { mountConforms } from './suite.ts'

for (const name of ['Linux 4.18', 'Linux 5.10'] as const) {
  describe(`a mount on ${name}, as the driver sees it, is like a local directory:`, () => {
    mountConforms('kernel', () => ({ kernel: KERNELS[name] }))
  })
}
