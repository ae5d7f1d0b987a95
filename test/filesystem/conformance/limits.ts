/** What a driver cannot do, by its library's or its kernel's nature. A test that runs into one of these must fail. */
import type { MountDriver } from '../../../agents/target/mount-process/mount-spec.ts'

const LIBFUSE_2 = 'libfuse 2.9 does not pass it on'
const PACKAGE = 'the package fuse-native does not pass it on'

/** Each limit, whose it is, and why. */
export const LIMITS = {
  'times to the nanosecond': { driver: 'fuse-native', because: `milliseconds: ${PACKAGE}` },
  'a modification time of its own': { driver: 'fuse-native', because: `only the access time: ${PACKAGE}` },
  'the caller': { driver: 'fuse-native', because: `new files belong to the mount's owner: ${PACKAGE}` },
  'names that are not UTF-8': { driver: 'fuse-native', because: `names are strings: ${PACKAGE}` },
  'rename flags': { driver: 'fuse-native', because: `renameat2(2) gives EINVAL: ${LIBFUSE_2}` },
  fallocate: { driver: 'fuse-native', because: `EOPNOTSUPP: ${PACKAGE}` },
  'holes and data': { driver: 'fuse-native', because: `the whole file is data: ${LIBFUSE_2}` },
  'device numbers': { driver: 'fuse-native', because: `fstat(2) gives 0: ${PACKAGE}` },
  'removed directories': { driver: 'fuse-native', because: 'libfuse 2.9 finds a directory by its path' },
  'two names of one file': {
    driver: 'fuse-native',
    because: 'to libfuse 2.9 they are two files, whose attributes and pages the kernel keeps apart',
  },
} as const satisfies Record<string, { driver: MountDriver; because: string }>

export type Limit = keyof typeof LIMITS
