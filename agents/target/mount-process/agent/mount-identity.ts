/** Which processes serve the mount of a session. All is read from memory and local files, at once; nothing waits. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { identify, isAlive, type ProcessIdentity } from '../../../../config/process-identity.ts'
import { cachePaths, type MountSpec, mountTitle, readMountSpec } from '../mount-spec.ts'

export interface RecordedMount {
  /** It may have ended. */
  readonly identity: ProcessIdentity
  readonly spec: MountSpec
}

/** What the write cache says; undefined when it has nothing that can be read. */
export function recordedMount(cachePath: string): RecordedMount | undefined {
  const paths = cachePaths(cachePath)
  try {
    const identity = JSON.parse(readFileSync(paths.identity, 'utf8')) as ProcessIdentity
    return { identity, spec: readMountSpec(paths.spec) }
  } catch {
    return undefined
  }
}

/** Of a process's short name; TASK_COMM_LEN without its final NUL, proc(5). */
const COMM_BYTES = 15

/** Those that are alive, also without a write cache: they are known by the title that they give themselves. */
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
 * Of this user: anybody may call a process anything. Only those of the short name are asked for more, which a child that
 * waits for a mount on its way to its program would not answer.
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
