/**
 * Kernels that the tests imitate, by what their FUSE offers and which files and calls they lack. It is the driver that is
 * made to see another kernel: this one uses only what the driver then agrees to.
 *
 * Source: include/uapi/linux/fuse.h of each release; fs/fuse/inode.c for `subtype` (5.4); mm/backing-dev.c for
 * max_ratio_fine (6.2); kernel/cgroup/cgroup.c for cgroup.kill (5.14). INIT of 4.18 and 5.10 as their kernels sent it.
 */
import { fileURLToPath } from 'node:url'
import { INIT } from '../../../agents/target/filesystem/drivers/kernel/protocol.ts'

export interface ImitatedKernel {
  /** As of uname(2). */
  readonly release: string
  /** Of FUSE's protocol 7. */
  readonly minor: number
  /** The flags of INIT that it may offer; others are masked. */
  readonly flags: number
  /** Whether `/sys/class/bdi` has max_ratio_fine. */
  readonly boundsFinely: boolean
}

/** All flags below this bit. */
const below = (bit: number) => 2 ** bit - 1

/** RHEL 8 is of the first, with more in it than this; Debian 10 is 4.19. */
export const KERNELS = {
  'Linux 4.18': { release: '4.18.0', minor: 27, flags: below(22), boundsFinely: false },
  'Linux 5.4': { release: '5.4.0', minor: 31, flags: below(27), boundsFinely: false },
  'Linux 5.10': { release: '5.10.0', minor: 32, flags: below(28), boundsFinely: false },
  'Linux 6.1': { release: '6.1.0', minor: 37, flags: below(31), boundsFinely: false },
} as const satisfies Record<string, ImitatedKernel>

/** The newest kernel, but without one of the features that Howdah uses. NO_OPEN_SUPPORT it cannot do without. */
export function kernelsWithout(): Record<string, ImitatedKernel> {
  const optional = Object.entries(INIT).filter(([name]) => name !== 'NO_OPEN_SUPPORT')
  return Object.fromEntries(
    optional.map(([name, flag]) => [
      name,
      { release: '6.18.0', minor: 45, flags: below(32) - flag, boundsFinely: true },
    ]),
  )
}

const PRELOAD = fileURLToPath(new URL('./imitate.ts', import.meta.url))

/** Processes that `start` starts before it returns or waits, and those that they start, see this kernel. */
export function imitating<T>(kernel: ImitatedKernel | undefined, start: () => T): T {
  if (kernel === undefined) return start()
  const { NODE_OPTIONS: before } = process.env
  process.env.NODE_OPTIONS = [before, `--import=${PRELOAD}`].join(' ').trim()
  process.env.IMITATED_KERNEL = JSON.stringify(kernel)
  try {
    return start()
  } finally {
    delete process.env.IMITATED_KERNEL
    if (before === undefined) delete process.env.NODE_OPTIONS
    else process.env.NODE_OPTIONS = before
  }
}
