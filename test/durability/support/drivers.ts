/** The drivers under test, and what each can do. */
import type { ModelDriver } from './model.ts'

export const DRIVERS: readonly ModelDriver[] = [
  {
    name: 'kernel',
    able: { renameModes: true, fallocate: true, links: true, exactTimes: true },
    spec: { driver: 'kernel' },
  },
  {
    // libfuse 2.9 knows no rename flags, fuse-native no fallocate and no access time beside another
    // modification time; two names of one file are two files to the page cache.
    name: 'fuse-native',
    able: { renameModes: false, fallocate: false, links: false, exactTimes: false },
    spec: { driver: 'fuse-native' },
  },
]
