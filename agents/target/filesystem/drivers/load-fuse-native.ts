/**
 * Loads the package fuse-native, whose addon needs libfuse.so.2: the system's, or where there is none (a distribution may
 * have libfuse 3 only) the one that the package brings. No other file loads it.
 */
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import path from 'node:path'
import type Fuse from 'fuse-native'
import { HowdahError } from '../../../../messages/errors.ts'

/** dlopen(3), not in Node's constants: the library stays although Node, to which it is no addon, closes it at once. */
const RTLD_NODELETE = 0x1000

const require = createRequire(import.meta.url)

/** @throws HowdahError `fuse_unusable`, which says what to install */
export function loadFuseNative(): typeof Fuse {
  try {
    return load()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_DLOPEN_FAILED') throw unusable(error)
  }
  loadLibfuseOfPackage()
  try {
    return load()
  } catch (error) {
    throw unusable(error)
  }
}

// After a failure, require tries again.
const load = () => require('fuse-native') as typeof Fuse

/** The linker takes a library that is loaded for the one that an addon needs when their names (DT_SONAME) are the same. */
function loadLibfuseOfPackage(): void {
  try {
    const directory = path.dirname(require.resolve('fuse-native/package.json'))
    const library = path.join(directory, 'prebuilds', `${process.platform}-${process.arch}`, 'libfuse.so')
    process.dlopen({ exports: {} }, library, constants.dlopen.RTLD_LAZY | RTLD_NODELETE)
  } catch {
    // Always, since it is no addon; whether it was loaded shows when the addon is.
  }
}

function unusable(cause: unknown): HowdahError {
  const missing = (cause as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND'
  const what = missing
    ? 'the package fuse-native is not installed; npm leaves it out where libfuse 2 is missing'
    : `libfuse 2 cannot be loaded (${(cause as Error).message})`
  const again = missing ? ', and then Howdah again' : ''
  return new HowdahError(
    'fuse_unusable',
    `${what}. Install libfuse2t64 (Debian 13, Ubuntu 24.04), libfuse2 (older ones) or fuse-libs (dnf)${again}; or run the agent as root.`,
    { cause },
  )
}
