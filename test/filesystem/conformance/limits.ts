/** What a driver cannot do, by its library's or its kernel's nature. A test that runs into one of these must fail. */

import type { MountDriver } from '../../../agents/target/mount-process/mount-spec.ts'
import { isKernelAtLeast } from '../../../agents/target/preflight/kernel-release.ts'

const LIBFUSE_2 = 'libfuse 2.9 does not pass it on'
const PACKAGE = 'the package fuse-native does not pass it on'

/** Of one driver, or of kernels before a release. */
type LimitOf = { readonly because: string } & (
  | { readonly driver: MountDriver }
  | { readonly before: readonly [major: number, minor: number] }
)

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
  'zeroed ranges': { before: [5, 14], because: 'FUSE has no FALLOC_FL_ZERO_RANGE before Linux 5.14' },
} as const satisfies Record<string, LimitOf>

export type Limit = keyof typeof LIMITS

export function holds(limit: LimitOf, driver: MountDriver): boolean {
  return 'driver' in limit ? limit.driver === driver : !isKernelAtLeast(...limit.before)
}
