/**
 * Ends what runs for a session on this machine, its PostgreSQL and its mount, whatever they are like: in the middle of
 * a step, with files in use, without the files that tell of them, on a mount that hangs.
 *
 * Nothing here waits for the mount. Until nobody can hang on it only memory, local files read at once, sockets and
 * children are used: an earlier step may have all threads that read files wait for it.
 */
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import type { StepCommand } from '../../../messages/steps.ts'
import { removeIsolation } from '../isolation/isolation.ts'
import { clearDeadMount } from '../mount-process/agent/dead-mount.ts'
import { type MountProcess, mountProcessesOf } from '../mount-process/agent/mount-process.ts'
import { withDeadline } from '../postgres/process/deadline.ts'
import { type StopOutcome, stopInstance } from '../postgres/process/stop.ts'
import { type PublishedSession, publishedSession, readSession } from './published-session.ts'

export interface Teardown {
  readonly session: string
  readonly mountPoint: string
  readonly cachePath: string
  /** Undefined: nobody knows of an instance of this session. */
  readonly instance: PublishedSession | undefined
  /** Whether the write cache is kept: what reached the mount is made durable, as far as it can be. */
  readonly keepCache: boolean
  /** `fast` writes a checkpoint, so that the next start on the write cache has nothing to recover. */
  readonly mode: 'fast' | 'immediate'
  /** A step of the session that does not heed that it was superseded: see `StepContext`. */
  readonly orphan: Promise<void> | undefined
  readonly logger: Logger
}

/** What the steps of a session may have left here: from its files or, where these are gone, from the command. */
export async function teardownOf(
  command: StepCommand,
  { mountRoot, cacheRoot }: { readonly mountRoot: string; readonly cacheRoot: string },
  orphan: Promise<void> | undefined,
  logger: Logger,
): Promise<Teardown> {
  const { session, input } = command
  const [mountPoint, cachePath] = [`${mountRoot}/${session}`, `${cacheRoot}/${session}`]
  const instance = readSession(cachePath) ?? (await publishedSession(command).catch(() => undefined))
  const keepCache = input.keepCache === true
  const mode = keepCache ? 'fast' : 'immediate'
  return { session, mountPoint, cachePath, instance, keepCache, mode, orphan, logger }
}

/** How long PostgreSQL may take to each way of being asked, ms. */
const GRACE_MS = { fast: 60_000, immediate: 5_000 } as const
/** For a step whose mount is gone, ms. */
const LINGER_MS = 20_000

/**
 * Stops PostgreSQL; a mount that would keep it from ending is ended first. Safe to repeat.
 * @throws HowdahError `timeout` | `mount_failed`
 */
export async function endInstance(of: Teardown): Promise<StopOutcome> {
  const mounts = await Promise.all(mountProcessesOf(of).map(lookAt))
  // Whoever reads through a mount whose server is away waits for long, and ends only then.
  const hanging = mounts.filter(({ served }) => served === 'not' || (served === 'away' && !of.keepCache))
  if (hanging.length > 0) {
    of.logger.warn({ pids: hanging.map(({ mount }) => mount.pid) }, 'the mount hangs, and is ended')
    await endMounts(
      of,
      hanging.map(({ mount }) => mount),
    )
  }
  if (of.orphan) await awaitSupersededStep(of, of.orphan)
  if (!of.instance) {
    await removeIsolation(of)
    return 'absent'
  }
  const { logger, mode } = of
  const graceMs = mounts.some(({ served }) => served === 'away') ? GRACE_MS.immediate : GRACE_MS[mode]
  try {
    return await stopInstance(of.instance, { logger, graceMs, mode })
  } catch (error) {
    if (!(error instanceof HowdahError) || error.code !== 'timeout') throw error
    // Not even killing ends who waits for a mount.
    logger.warn({ err: error }, 'PostgreSQL waits for its mount, which is ended')
    await endMounts(of, mountProcessesOf(of))
    return stopInstance(of.instance, { logger, graceMs: GRACE_MS.immediate, mode: 'immediate' })
  }
}

/**
 * Unmounts, in order where that can be; nothing of the session's mount is left. PostgreSQL must have ended.
 * @returns whether there was anything
 * @throws HowdahError `timeout` | `mount_failed`
 */
export async function endMount(of: Teardown): Promise<boolean> {
  const mounts = mountProcessesOf(of)
  await endMounts(of, mounts)
  return mounts.length > 0
}

async function endMounts(of: Teardown, mounts: readonly MountProcess[]): Promise<void> {
  const inUse = of.keepCache ? 'sync' : 'discard'
  await Promise.all(mounts.map((mount) => mount.stop({ inUse })))
  await clearDeadMount(of.mountPoint)
}

/** `away`: by a process that answers and does not reach the mount server; `not`: by one that does not answer. */
interface Look {
  readonly mount: MountProcess
  readonly served: 'well' | 'away' | 'not'
}

async function lookAt(mount: MountProcess): Promise<Look> {
  const status = await mount.status().catch(() => undefined)
  return { mount, served: status === undefined ? 'not' : status.connected ? 'well' : 'away' }
}

async function awaitSupersededStep(of: Teardown, orphan: Promise<void>): Promise<void> {
  of.logger.warn('a step that was superseded waits for the mount, which is ended')
  await endMounts(of, mountProcessesOf(of))
  await withDeadline(
    orphan,
    LINGER_MS,
    `A step of the session ${of.session} that was superseded does not end within ${LINGER_MS / 1000} s.`,
  )
}
