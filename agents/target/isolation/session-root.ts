/**
 * Creates the directory that becomes a session's root, and the fstab of its mounts. Mounts nothing: that happens in the
 * mount namespace of the server, and the mounts disappear with it.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { HowdahError } from '../../../messages/errors.ts'
import { isKernelAtLeast } from '../preflight/kernel-release.ts'
import { hostMounts, isWithin } from './host-mounts.ts'
import { fstab, type Host, type RootRequest, rootLayout, TEMPORARY } from './root-layout.ts'

export interface SessionRoot {
  readonly root: string
  readonly fstab: string
}

export type SessionRootRequest = Omit<RootRequest, 'root' | 'hostsFile'> & {
  /** Content of /etc/hosts; undefined: the machine's. */
  readonly hosts: string | undefined
}

/** The server of the session must have ended. @throws HowdahError `target_unreachable`, or the file system's error */
export function makeSessionRoot(request: SessionRootRequest): SessionRoot {
  const { cachePath, hosts } = request
  const root = `${cachePath}/root`
  removeSessionRoot(cachePath)
  const hostsPath = hosts === undefined ? undefined : `${cachePath}/conf/hosts`
  if (hostsPath !== undefined) writeFileSync(hostsPath, hosts ?? '', { mode: 0o644 })
  const layout = rootLayout({ ...request, root, hostsFile: hostsPath }, thisHost())
  const umask = process.umask(0o022)
  try {
    for (const { path, mode } of layout.directories) {
      mkdirSync(path, { recursive: true })
      if (mode !== 0o755) chmodSync(path, mode)
    }
    for (const path of layout.files) writeFileSync(path, '', { flag: 'wx', mode: 0o644 })
    for (const { path, target } of layout.symlinks) symlinkSync(target, path)
  } finally {
    process.umask(umask)
  }
  const table = `${cachePath}/conf/fstab`
  writeFileSync(table, fstab(layout.mounts), { mode: 0o600 })
  return { root, fstab: table }
}

/** Removes it with the temporary files of the server, which must have ended. @throws HowdahError `internal` */
export function removeSessionRoot(cachePath: string): void {
  const directories = ['root', ...TEMPORARY.map(([, name]) => name)].map((name) => `${cachePath}/${name}`)
  const mounted = hostMounts().find(({ mountPoint }) =>
    directories.some((path) => isWithin(mountPoint, path)),
  )
  // Removing recursively would delete the contents of the mount.
  if (mounted !== undefined)
    throw new HowdahError('internal', `${mounted.mountPoint} is mounted; unmount it and retry.`)
  for (const path of directories) rmSync(path, { recursive: true, force: true })
}

function thisHost(): Host {
  return {
    mounts: hostMounts(),
    hidesProcesses: isKernelAtLeast(5, 8),
    look(path) {
      const found = lstatSync(path, { throwIfNoEntry: false })
      if (found === undefined) return 'absent'
      if (found.isDirectory()) return 'directory'
      return found.isSymbolicLink() ? 'symlink' : 'other'
    },
    readlink: (path) => readlinkSync(path),
    list: (directory) => readdirSync(directory),
  }
}
