/**
 * Mounts a FUSE device and unmounts it, without ever touching the mount: its server may be this very process. Needs
 * root. Who serves the device is not decided here.
 */
import { spawn } from 'node:child_process'
import { closeSync, constants, openSync, stat, statfs, writeSync } from 'node:fs'
import type { Logger } from 'pino'
import { HowdahError } from '../../../../../messages/errors.ts'
import type { MountOptions } from '../../file-system.ts'
import { findMount } from '../mount-table.ts'
import { unmount } from '../unmount.ts'
import { tuneReadAhead } from './backing-device.ts'
import { retrieveNothingMessage } from './notifications.ts'
import { WAKEUP_FILE, WAKEUP_FILE_NAME } from './wakeup-file.ts'

const MOUNT_DEADLINE_MS = 10_000
/** The child's number of the descriptor that it inherits. */
const INHERITED_FD = 3

export interface DeviceMountOptions extends MountOptions {
  readonly logger: Logger
}

export interface MountedDevice {
  /** The device, for `serve`, which may run in another thread and tells of the end. Closed by `close`. */
  readonly fd: number
  /** The device number of the file system, `major:minor`, as in mountinfo. */
  readonly device: string
  /** Has the thread that sleeps in the device wake up. Only once the server has agreed with the kernel. */
  wakeServer(): void
  /** Unmounts; resolves when umount(8) has ended. @throws HowdahError `mount_failed` when files are in use */
  unmount(): Promise<void>
  /** Closes the device, when nobody serves it any more. A mount that is still there answers ENOTCONN from then on. */
  close(): void
}

/** Mounts; resolves before anything is served. @throws HowdahError `mount_failed` | `fuse_unusable` */
export async function mountDevice(mountPoint: string, options: DeviceMountOptions): Promise<MountedDevice> {
  const fd = openDevice()
  try {
    await mount(fd, mountPoint, options)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  const device = findMount(mountPoint)?.device ?? ''
  tuneReadAhead(device, options.logger)
  return mounted(fd, mountPoint, device, options.logger)
}

function openDevice(): number {
  try {
    return openSync('/dev/fuse', constants.O_RDWR)
  } catch (cause) {
    throw new HowdahError(
      'fuse_unusable',
      '/dev/fuse cannot be opened: load the kernel module fuse, and let this user read and write the device',
      { cause },
    )
  }
}

/** Source of the options: Linux, Documentation/filesystems/fuse/fuse.rst, and mount(8). */
async function mount(fd: number, mountPoint: string, options: MountOptions): Promise<void> {
  const list = [`fd=${INHERITED_FD}`, 'rootmode=40000', 'user_id=0', 'group_id=0', 'default_permissions']
  list.push('subtype=howdah', 'nosuid', 'nodev', 'noatime')
  if (options.allowOther) list.push('allow_other')
  const source = options.source.replaceAll(/[\s,]/g, '_')
  const child = spawn('mount', ['-i', '-t', 'fuse', '-o', list.join(','), source, mountPoint], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    timeout: MOUNT_DEADLINE_MS,
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve)
    child.once('error', (cause) =>
      reject(new HowdahError('mount_failed', 'the program mount cannot be run', { cause })),
    )
  })
  if (code === 0) return
  throw new HowdahError(
    'mount_failed',
    `${mountPoint} could not be mounted: ${said.trim() || 'mount was stopped'}`,
  )
}

function mounted(fd: number, mountPoint: string, device: string, logger: Logger): MountedDevice {
  const ring = retrieveNothingMessage(WAKEUP_FILE.ino)
  let open = true
  let looking = false

  function wakeServer(): void {
    if (!open) return
    try {
      writeSync(fd, ring)
    } catch (error) {
      logger.debug({ err: error }, 'the kernel does not hold the bell')
      // Always a request, and one that waits for no lock: whoever syncs the root holds its lock until this is answered.
      // A mount that is about to go wakes its server itself.
      statfs(mountPoint, () => undefined)
      lookUpWakeupFile()
    }
  }

  /** Has the kernel hold the bell from then on. Once at a time: it may wait for that lock, in the thread pool. */
  function lookUpWakeupFile(): void {
    if (looking) return
    looking = true
    stat(`${mountPoint}/${WAKEUP_FILE_NAME}`, () => {
      looking = false
    })
  }

  return {
    fd,
    device,

    wakeServer,

    unmount: () => unmount(mountPoint, ['umount', '-i']),

    close() {
      if (open) closeSync(fd)
      open = false
    },
  }
}
