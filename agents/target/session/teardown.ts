/**
 * Stops a session's PostgreSQL and its mount, in whatever state they are: in the middle of a step, with files in use,
 * without their records, on a mount that hangs.
 *
 * Nothing here waits for the mount. As long as a process may hang on it only memory, synchronous reads of local files,
 * sockets and child processes are used: an earlier step may block the whole libuv thread pool.
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
  /** Undefined: there is no record of an instance of this session. */
  readonly instance: PublishedSession | undefined
  /** Whether the write cache is kept: what was written to the mount is made durable, as far as possible. */
  readonly keepCache: boolean
  /** `fast` writes a checkpoint, so that the next start on the write cache needs no recovery. */
  readonly mode: 'fast' | 'immediate'
  /** A superseded step of the session that still runs: see `StepContext`. */
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

/** How long PostgreSQL may take for each shutdown mode, ms. */
const GRACE_MS = { fast: 60_000, immediate: 5_000 } as const
/** How long an orphaned step may take to end once its mount has ended, ms. */
const ORPHAN_MS = 20_000

/**
 * Stops PostgreSQL; a mount that would block its shutdown is stopped first. Safe to repeat.
 * @throws HowdahError `timeout` | `mount_failed`
 */
export async function endInstance(of: Teardown): Promise<StopOutcome> {
  const mounts = await Promise.all(mountProcessesOf(of).map(probe))
  // A process that reads from a mount whose server is unreachable ends only after the read deadline.
  const hanging = mounts.filter(({ served }) => served === 'not' || (served === 'away' && !of.keepCache))
  if (hanging.length > 0) {
    of.logger.warn({ pids: hanging.map(({ mount }) => mount.pid) }, 'the mount hangs, and is stopped')
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
    // A process that waits for a mount cannot even be killed.
    logger.warn({ err: error }, 'PostgreSQL waits for its mount, which is stopped')
    await endMounts(of, mountProcessesOf(of))
    return stopInstance(of.instance, { logger, graceMs: GRACE_MS.immediate, mode: 'immediate' })
  }
}

/**
 * Unmounts, cleanly where possible; nothing of the session's mount is left. PostgreSQL must have ended.
 * @returns whether there was a mount process
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

/** `away`: its process answers but does not reach the mount server; `not`: its process does not answer. */
interface ProbedMount {
  readonly mount: MountProcess
  readonly served: 'well' | 'away' | 'not'
}

async function probe(mount: MountProcess): Promise<ProbedMount> {
  const status = await mount.status().catch(() => undefined)
  return { mount, served: status === undefined ? 'not' : status.connected ? 'well' : 'away' }
}

async function awaitSupersededStep(of: Teardown, orphan: Promise<void>): Promise<void> {
  of.logger.warn('a superseded step waits for the mount, which is stopped')
  await endMounts(of, mountProcessesOf(of))
  await withDeadline(
    orphan,
    ORPHAN_MS,
    `A superseded step of the session ${of.session} does not end within ${ORPHAN_MS / 1000} s.`,
  )
}
