/** Finds the processes that serve a session's mount, from /proc and local files only, so that it never waits for a mount. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { identify, isAlive, type ProcessIdentity } from '../../../../config/process-identity.ts'
import { cachePaths, type MountSpec, mountTitle, readMountSpec } from '../mount-spec.ts'

export interface RecordedMount {
  /** The process, which may have ended. */
  readonly identity: ProcessIdentity
  readonly spec: MountSpec
}

/** The process recorded in the write cache; undefined when there is no readable record. */
export function recordedMount(cachePath: string): RecordedMount | undefined {
  const paths = cachePaths(cachePath)
  try {
    const identity = JSON.parse(readFileSync(paths.identity, 'utf8')) as ProcessIdentity
    return { identity, spec: readMountSpec(paths.spec) }
  } catch {
    return undefined
  }
}

/** Length of a process's short name: TASK_COMM_LEN without the NUL, proc(5). */
const COMM_BYTES = 15

/** The live processes; without a write cache they are found by their process title. */
export function mountIdentities({
  session,
  cachePath,
}: {
  readonly session: string
  readonly cachePath: string
}): ProcessIdentity[] {
  const recorded = recordedMount(cachePath)?.identity
  const known = recorded && isAlive(recorded) ? [recorded] : []
  const titled = processesTitled(mountTitle(session)).filter(
    ({ pid }) => !known.some((one) => one.pid === pid),
  )
  return [...known, ...titled]
}

/**
 * Processes of this user only, since any user may choose any title. `cmdline` is read only for matching short names: reading
 * it blocks for a child that waits for a mount before exec.
 */
function processesTitled(title: string): ProcessIdentity[] {
  const own = process.geteuid?.()
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        if (statSync(`/proc/${pid}`).uid !== own) return false
        if (readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd() !== title.slice(0, COMM_BYTES)) return false
        const [words = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        return words.trim() === title
      } catch {
        return false
      }
    })
    .map((pid) => identify(Number(pid)))
    .filter((state) => state !== undefined)
}
