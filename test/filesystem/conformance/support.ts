/** One mount for the tests of a driver, and the Python in which they make their system calls. */
import { mkdir } from 'node:fs/promises'
import type { MountProcess } from '../../../agents/target/mount-process/agent/mount-process.ts'
import type { MountDriver } from '../../../agents/target/mount-process/mount-spec.ts'
import { makeScratch, python, type Scratch, type ScratchPlace, startMount } from '../support/mounted.ts'
import { holds, LIMITS, type Limit } from './limits.ts'

/** To whom the mount belongs; neither root nor the user of any program. */
export const OWNER = { uid: 12_345, gid: 23_456 }
const TEST_DEADLINE_MS = 60_000

export interface Conformance {
  readonly driver: MountDriver
  readonly scratch: Scratch
  /**
   * A test of what a Python script says, run in an empty directory of the mount. It has `os`, `errno`, `stat`, `mmap`,
   * `threading`, and what PRELUDE adds. Where the driver has one of the limits, the script must fail.
   */
  conforms(sentence: string, script: string, ...limits: readonly Limit[]): void
}

/**
 * Declares the hooks that mount before the first test and take everything away after the last. `place`: asked before the
 * first test.
 */
export function conformance(
  driver: MountDriver,
  files: (base: string) => Promise<void>,
  place: () => ScratchPlace = () => ({}),
): Conformance {
  let scratch: Scratch | undefined
  let mount: MountProcess | undefined
  let tests = 0

  before(async function () {
    this.timeout(TEST_DEADLINE_MS)
    scratch = await makeScratch(OWNER, place())
    await files(scratch.base)
    mount = await startMount(scratch, scratch.base, OWNER, { driver })
  })

  after(async function () {
    this.timeout(TEST_DEADLINE_MS)
    try {
      await mount?.stop()
    } finally {
      await scratch?.remove()
    }
  })

  const mounted = (): Scratch => {
    if (scratch === undefined) throw new Error('there is no mount')
    return scratch
  }

  return {
    driver,
    get scratch() {
      return mounted()
    },
    conforms(sentence, script, ...limits) {
      const limit = limits.find((name) => holds(LIMITS[name], driver))
      const title =
        limit === undefined ? sentence : `${sentence} – not here (${limit}: ${LIMITS[limit].because})`
      it(title, async function () {
        this.timeout(TEST_DEADLINE_MS)
        const directory = `${mounted().mountPoint}/data/${tests++}`
        await mkdir(directory)
        const said = await python(PRELUDE + script, directory).catch((error: Error) => error)
        if (limit === undefined && said instanceof Error) throw new Error(reason(said))
        if (limit !== undefined && !(said instanceof Error)) throw new Error(`the limit is gone: ${limit}`)
      })
    },
  }
}

/** Python's error message, without the script. */
function reason(error: Error): string {
  return 'stderr' in error && error.stderr !== ''
    ? String(error.stderr).slice(-1000)
    : error.message.slice(-1000)
}

const PRELUDE = `
import ctypes, errno, fcntl, mmap, os, socket, stat, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
DATA = os.path.dirname(os.getcwd())
OWNER, GROUP = ${OWNER.uid}, ${OWNER.gid}

def fails(name, call, *args, **more):
    try:
        call(*args, **more)
    except OSError as error:
        assert error.errno == getattr(errno, name), f'{errno.errorcode[error.errno]} instead of {name}'
    else:
        raise AssertionError(f'done, instead of {name}')

def write(path, data, flags=os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, os.O_WRONLY | flags, 0o600)
    assert os.write(fd, data) == len(data)
    os.close(fd)

def read(path):
    with open(path, 'rb') as file:
        return file.read()

def same(got, wanted):
    assert got == wanted, f'{got!r} instead of {wanted!r}'

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def renameat2(old, new, flags):
    checked(libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))

def fallocate(fd, mode, offset, length):
    checked(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))

def as_user(uid, gid, work):
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
    same(os.waitpid(child, 0)[1], 0)
`
