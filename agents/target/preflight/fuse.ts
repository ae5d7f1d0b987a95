/**
 * Checks whether this process can mount a file system: /dev/fuse and, without root, libfuse and the program fusermount, which
 * is setuid root (mount.fuse(8), fusermount(1)).
 */
import { access, constants, open, readFile, stat } from 'node:fs/promises'
import { findFusermount } from '../filesystem/drivers/fusermount.ts'
import { loadFuseNative } from '../filesystem/drivers/load-fuse-native.ts'
import type { Finding } from './settings.ts'
import { ownName } from './user.ts'

const SETUID = 0o4000

export interface FuseEnvironment {
  /** Default: /dev/fuse. */
  readonly device?: string
  /** Directories of programs, in the format of PATH. */
  readonly path?: string
  /** Effective uid of the agent. */
  readonly uid?: number
}

/** Everything that keeps this process from mounting. */
export async function checkFuse(environment: FuseEnvironment = {}): Promise<Finding[]> {
  const { device = '/dev/fuse', path = process.env.PATH ?? '', uid = process.geteuid?.() ?? 0 } = environment
  const problems = [
    await deviceProblem(device),
    ...(uid === 0 ? [] : [await libraryProblem(), await helperProblem(path), await privilegeProblem()]),
  ]
  return problems
    .filter((message) => message !== undefined)
    .map((message) => ({ code: 'fuse_unusable', message }))
}

async function deviceProblem(device: string): Promise<string | undefined> {
  try {
    await (await open(device, 'r+')).close()
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO')
      return `${device} is missing on the target. Load the kernel module (modprobe fuse); in a container, pass the device in (--device /dev/fuse --cap-add SYS_ADMIN).`
    const mode = await stat(device).then(
      (found) => `, its mode is ${(found.mode & 0o7777).toString(8).padStart(4, '0')}`,
      () => '',
    )
    return `${device} cannot be opened by the user "${ownName()}", who runs the target agent (${code}${mode}). Distributions let everybody: chmod 0666 ${device}, and to keep it so a udev rule KERNEL=="fuse", MODE="0666"; in a container allow the device.`
  }
}

async function helperProblem(path: string): Promise<string | undefined> {
  const user = ownName()
  const program = findFusermount(path)
  if (program === undefined)
    return `fusermount is not installed on the target, and the agent runs as "${user}", who cannot mount without it. Install the package fuse3 (by apt, dnf or zypper), or run the agent as root.`
  const found = await stat(program)
  if (found.uid !== 0 || (found.mode & SETUID) === 0)
    return `${program} is not setuid root, so it cannot mount for the user "${user}", who runs the target agent. Do: chown root ${program}; chmod 4755 ${program}; or run the agent as root.`
  return access(program, constants.X_OK).then(
    () => undefined,
    () =>
      `${program} may not be run by the user "${user}", who runs the target agent. Do: chmod o+x ${program}, or add the user to its group.`,
  )
}

async function libraryProblem(): Promise<string | undefined> {
  try {
    loadFuseNative()
    return undefined
  } catch (error) {
    return `The target agent runs as "${ownName()}", who cannot mount without libfuse 2: ${(error as Error).message}`
  }
}

/** With no_new_privs a process gains no privileges from setuid programs: proc(5), PR_SET_NO_NEW_PRIVS of prctl(2). */
async function privilegeProblem(): Promise<string | undefined> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '')
  if (!/^NoNewPrivs:\s*1$/m.test(status)) return undefined
  return 'The target agent may gain no privileges (no_new_privs), so fusermount cannot mount for it. In its systemd unit set NoNewPrivileges=no; in a container allow privilege escalation; or run the agent as root.'
}
