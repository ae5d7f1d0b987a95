/** The drivers under test, and what each can do. */
import type { ModelDriver } from './model.ts'

const FUSE_NATIVE: ModelDriver = {
  name: 'fuse-native',
  able: { renameModes: false, fallocate: false, links: false, exactTimes: false, seek: false },
  spec: {},
}

export const DRIVERS: readonly ModelDriver[] = [FUSE_NATIVE]
