/**
 * The driver over the package fuse-native (libfuse 2.9's high-level interface): works without root, through fusermount.
 * Mounts and unmounts; requests are handled by path-operations.ts.
 *
 * A limit of libfuse: two names of one inode are two files to the kernel's page cache.
 */
import { accessSync, constants as fsConstants } from 'node:fs'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Driver, FileSystem, MountedFileSystem, MountOptions } from '../file-system.ts'
import { fusermountCommand, letLibfuseFindFusermount } from './fusermount.ts'
import { loadFuseNative } from './load-fuse-native.ts'
import { isMounted } from './mount-table.ts'
import { answer, type Done, encodeAttributes, pathOperations } from './path-operations.ts'
import { timed, timedOperations } from './timed-operations.ts'
import { unmount } from './unmount.ts'

/** Only this mount changes the tree, so what the kernel has cached of existing files stays valid. */
const KEPT_SECONDS = 86_400
/** Interval of checking whether the mount still exists. */
const WATCH_MS = 500

/** The driver; fuse-native is loaded at the first mount, or earlier by `load`. @throws HowdahError `fuse_unusable` */
export function fuseNativeDriver(): Driver & { load(): Promise<unknown> } {
  return {
    name: 'fuse-native',
    load: async () => loadFuseNative(),
    mount,
  }
}

async function mount(
  mountPoint: string,
  fileSystem: FileSystem,
  options: MountOptions,
): Promise<MountedFileSystem> {
  const Fuse = loadFuseNative()
  try {
    accessSync('/dev/fuse', fsConstants.R_OK | fsConstants.W_OK)
  } catch (cause) {
    throw new HowdahError(
      'fuse_unusable',
      '/dev/fuse cannot be opened: load the kernel module fuse, and let this user read and write the device',
      {
        cause,
      },
    )
  }
  const { operations, attributesOf } = pathOperations(fileSystem, { uid: options.uid, gid: options.gid })
  const getattr = (signal: Done) => timed('getattr', options.observe, signal)

  class Mount extends Fuse {
    protected override _fuseOptions(): string {
      const kept = [`attr_timeout=${KEPT_SECONDS}`, `entry_timeout=${KEPT_SECONDS}`, 'negative_timeout=0']
      const source = options.source.replaceAll(/[\s,]/g, '_')
      const list = [`fsname=${source}`, 'subtype=howdah', 'default_permissions', 'use_ino', 'kernel_cache']
      list.push(...kept, 'big_writes', 'max_read=131072', 'noatime', 'nosuid', 'nodev')
      if (options.allowOther) list.push('allow_other')
      return `-o${list.join(',')}`
    }

    protected override _op_getattr(signal: Done, path: string): void {
      const done = getattr(signal)
      answer(
        done,
        () => attributesOf(path),
        (attributes) => done(0, encodeAttributes(attributes)),
      )
    }

    protected override _op_fgetattr(signal: Done, path: string, handle: number): void {
      const done = getattr(signal)
      answer(
        done,
        () => attributesOf(path, handle),
        (attributes) => done(0, encodeAttributes(attributes)),
      )
    }
  }

  letLibfuseFindFusermount()
  const fuse = new Mount(mountPoint, timedOperations(operations, options.observe), { timeout: false })
  await new Promise<void>((resolve, reject) => {
    fuse.mount((cause) => {
      if (cause === null) resolve()
      else
        reject(
          new HowdahError('mount_failed', `${mountPoint} could not be mounted: ${cause.message}`, { cause }),
        )
    })
  })
  return watch(mountPoint)
}

function watch(mountPoint: string): MountedFileSystem {
  let end = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const check = () => {
    if (isMounted(mountPoint)) return
    clearInterval(timer)
    end()
  }
  const timer = setInterval(check, WATCH_MS)
  return {
    ended,
    async unmount() {
      await unmount(mountPoint, process.geteuid?.() === 0 ? ['umount'] : [fusermountCommand(), '-u'])
      check()
      await ended
    },
  }
}
