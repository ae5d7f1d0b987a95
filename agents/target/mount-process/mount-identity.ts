/** Which processes serve the mount of a session. All is read from memory and local files, at once; nothing waits. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { identify, isAlive, type ProcessIdentity } from '../../runtime/process-identity.ts'
import { cachePaths, type MountSpec, mountTitle, readMountSpec } from './mount-spec.ts'

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

/** Of this user: anybody may call a process anything. */
function processesTitled(title: string): ProcessIdentity[] {
  const own = process.geteuid?.()
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [words = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        return words.trim() === title && statSync(`/proc/${pid}`).uid === own
      } catch {
        return false
      }
    })
    .map((pid) => identify(Number(pid)))
    .filter((state) => state !== undefined)
}
