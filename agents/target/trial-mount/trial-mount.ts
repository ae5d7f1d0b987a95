/**
 * Tries whether the user of an instance can read and write what the target agent mounts, by mounting a backup of one file.
 * Containers, security modules and mount options can prevent it in ways that no other check detects.
 */
import { readdir, rm, rmdir } from 'node:fs/promises'
import type { Logger } from 'pino'
import { programBeside } from '../../../config/program-beside.ts'
import { clearDeadMount } from '../mount-process/agent/dead-mount.ts'
import { launch } from '../mount-process/agent/launch.ts'
import { mountProcessesOf, startMountProcess } from '../mount-process/agent/mount-process.ts'
import { cachePaths } from '../mount-process/mount-spec.ts'
import { shellAs } from '../postgres/process/user-process.ts'
import type { SystemUser } from '../postgres/specification.ts'
import { prepareSessionDirectories } from '../preflight/session-directories.ts'
import type { Finding } from '../preflight/settings.ts'
import { TRIAL_CONTENT, TRIAL_FILE } from './trial-file.ts'

const MOUNT_DEADLINE_MS = 15_000
const USE_DEADLINE_MS = 10_000

/** Reads the file, writes another beside it, and removes that. */
const TRIAL = 'cat "$1" && echo howdah > "$1.new" && rm "$1.new"'

export interface Trial {
  /** A unique name, made by `trialName`. */
  readonly session: string
  readonly mountRoot: string
  readonly cacheRoot: string
}

const NAME = /^check-[0-9a-f]{12}$/

export function isTrial(name: string): boolean {
  return NAME.test(name)
}

/** `id`: 12 hexadecimal digits; no session's name ends in such a number. */
export function trialName(id: string): string {
  return `check-${id}`
}

/** Findings on why the user cannot use a mount; none where it can. Leaves nothing behind. */
export async function tryMount(trial: Trial, user: SystemUser, logger: Logger): Promise<Finding[]> {
  const { session, mountPoint, cachePath } = placesOf(trial)
  try {
    await prepareSessionDirectories({ mountPoint, cachePath, uid: user.uid, gid: user.gid })
    await startMountProcess(
      {
        session,
        mountPoint,
        cachePath,
        owner: { uid: user.uid, gid: user.gid },
        allowOther: process.geteuid?.() === 0,
        dataPlane: { host: '', port: 0, ticket: '', serverName: '', tls: { ca: '', cert: '', key: '' } },
        extraFiles: [],
        reserveBytes: 0,
        readDeadlineMs: USE_DEADLINE_MS,
      },
      {
        logger,
        deadlineMs: MOUNT_DEADLINE_MS,
        launch: () =>
          launch({ errors: cachePaths(cachePath).log, program: programBeside(import.meta.url, 'main') }),
      },
    )
  } catch (error) {
    await removeTrial(trial)
    return [{ code: 'fuse_unusable', message: `A trial mount failed: ${(error as Error).message}` }]
  }
  try {
    return await use(`${mountPoint}/${TRIAL_FILE}`, user)
  } finally {
    await removeTrial(trial)
  }
}

async function use(file: string, user: SystemUser): Promise<Finding[]> {
  try {
    const content = await shellAs(user, TRIAL, [file], { timeoutMs: USE_DEADLINE_MS })
    if (content === TRIAL_CONTENT) return []
    return [{ code: 'internal', message: `A trial mount gave ${JSON.stringify(content)} for its file.` }]
  } catch (error) {
    return [
      {
        code: 'user_unusable',
        message: `The user "${user.name}" cannot use what the agent mounts: ${(error as Error).message}. Look at security modules (SELinux, AppArmor) and, where the agent runs without root, at user_allow_other in /etc/fuse.conf.`,
        field: 'user',
      },
    ]
  }
}

/** Removes trials that an earlier agent process left when it was killed. */
export async function removeStaleTrials(roots: Omit<Trial, 'session'>): Promise<void> {
  const names = await Promise.all(
    [roots.mountRoot, roots.cacheRoot].map((root) => readdir(root).catch(() => [])),
  )
  const stale = new Set(names.flat().filter((name) => NAME.test(name)))
  await Promise.all([...stale].map((session) => removeTrial({ ...roots, session })))
}

async function removeTrial(trial: Trial): Promise<void> {
  const places = placesOf(trial)
  await Promise.all(mountProcessesOf(places).map((mount) => mount.stop({ inUse: 'discard' })))
  await clearDeadMount(places.mountPoint)
  await rmdir(places.mountPoint).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  await rm(places.cachePath, { recursive: true, force: true, maxRetries: 5 })
}

function placesOf({ session, mountRoot, cacheRoot }: Trial) {
  return { session, mountPoint: `${mountRoot}/${session}`, cachePath: `${cacheRoot}/${session}` }
}
