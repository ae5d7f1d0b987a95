/**
 * Mounts and unmounts a FUSE device, without ever waiting for the mount: its server may be this very process. Needs root.
 * Serving the device is left to the caller.
 */
import { spawn } from 'node:child_process'
import { closeSync, constants, openSync, stat, statfs, writeSync } from 'node:fs'
import type { Logger } from 'pino'
import { HowdahError } from '../../../../../messages/errors.ts'
import { isKernelAtLeast } from '../../../preflight/kernel-release.ts'
import type { MountOptions } from '../../file-system.ts'
import { findMount } from '../mount-table.ts'
import { unmount } from '../unmount.ts'
import { tuneReadAhead } from './backing-device.ts'
import { retrieveNothingMessage } from './notifications.ts'
import { WAKEUP_FILE, WAKEUP_FILE_NAME } from './wakeup-file.ts'

const MOUNT_DEADLINE_MS = 10_000
/** The number of the inherited descriptor in the child. */
const INHERITED_FD = 3

export interface DeviceMountOptions extends Omit<MountOptions, 'observe'> {
  readonly logger: Logger
}

export interface MountedDevice {
  /** The device, for `serve`, which may run in another thread and ends with the mount. Closed by `close`. */
  readonly fd: number
  /** The device number of the file system, `major:minor`, as in mountinfo. */
  readonly device: string
  /** Wakes the thread that sleeps in the device. Only after INIT was answered. */
  wakeServer(): void
  /** Unmounts; resolves when umount(8) has ended. @throws HowdahError `mount_failed` when files are in use */
  unmount(): Promise<void>
  /** Closes the device, when it is no longer served. A mount that still exists then answers ENOTCONN. */
  close(): void
}

/** Mounts; resolves before anything is served. @throws HowdahError `mount_failed` | `fuse_unusable` */
export async function mountDevice(mountPoint: string, options: DeviceMountOptions): Promise<MountedDevice> {
  const fd = openDevice()
  try {
    await attachDevice(fd, mountPoint, options)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  const device = findMount(mountPoint)?.device ?? ''
  tuneReadAhead(device, options.logger)
  return mounted(fd, mountPoint, device, options.logger)
}

/** @throws HowdahError `fuse_unusable` */
export function openDevice(): number {
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

/**
 * Mounts an open device. Source of the options: Linux, Documentation/filesystems/fuse/fuse.rst, fs/fuse/inode.c, and mount(8).
 * @throws HowdahError `mount_failed`
 */
export async function attachDevice(
  fd: number,
  mountPoint: string,
  options: Pick<DeviceMountOptions, 'allowOther' | 'source'>,
): Promise<void> {
  const list = [`fd=${INHERITED_FD}`, 'rootmode=40000', 'user_id=0', 'group_id=0', 'default_permissions']
  list.push('nosuid', 'nodev', 'noatime')
  // Before Linux 5.4 the subtype is a part of the type, and refused as an option; mount(8) from 2.39 on loses that part.
  const hasOption = isKernelAtLeast(5, 4)
  if (hasOption) list.push('subtype=howdah')
  const type = hasOption ? 'fuse' : 'fuse.howdah'
  if (options.allowOther) list.push('allow_other')
  const source = options.source.replaceAll(/[\s,]/g, '_')
  const child = spawn('mount', ['-i', '-t', type, '-o', list.join(','), source, mountPoint], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    timeout: MOUNT_DEADLINE_MS,
  })
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve)
    child.once('error', (cause) =>
      reject(new HowdahError('mount_failed', 'the program mount(8) cannot be started', { cause })),
    )
  })
  if (code === 0) return
  throw new HowdahError(
    'mount_failed',
    `${mountPoint} could not be mounted: ${stderr.trim() || 'mount(8) was killed'}`,
  )
}

function mounted(fd: number, mountPoint: string, device: string, logger: Logger): MountedDevice {
  const wakeup = retrieveNothingMessage(WAKEUP_FILE.ino)
  let open = true
  let looking = false

  function wakeServer(): void {
    if (!open) return
    try {
      writeSync(fd, wakeup)
    } catch (error) {
      logger.debug({ err: error }, 'the kernel does not have the wake-up file in memory')
      // statfs always causes a request, and takes no inode lock: a sync of the root holds that lock until it is answered.
      // A mount that is being removed wakes its server itself.
      statfs(mountPoint, () => undefined)
      lookUpWakeupFile()
    }
  }

  /** Loads the wake-up file into the kernel. One at a time: it may wait for that lock, in the thread pool. */
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
