/**
 * The step `recover`: starts PostgreSQL on the mount, or advances a paused recovery, and puts the session under watch.
 * Its undo stops PostgreSQL.
 */
import type { Logger } from 'pino'
import type { RecoverResult } from '../../../messages/steps.ts'
import type { StepContext, StepHandler } from '../../runtime/step-runner.ts'
import type { SessionChanges } from '../changes/session-changes.ts'
import { setAsideForWal } from '../filesystem/space/change-quota.ts'
import type { IsolationSettings } from '../isolation/isolation.ts'
import { findMountProcess, type MountProcess } from '../mount-process/agent/mount-process.ts'
import { findInstance, startInstance } from '../postgres/instance.ts'
import { isRecovered } from '../postgres/recovery/first-recovery.ts'
import type { PreflightSettings } from '../preflight/settings.ts'
import type { CacheShares } from '../room/cache-shares.ts'
import { logExcerpt } from '../session/log-excerpt.ts'
import { type PublishedSession, publishedSession, saveSession } from '../session/published-session.ts'
import type { SessionWatch } from '../session/session-watch.ts'
import { endInstance, teardownOf } from '../session/teardown.ts'
import { libraryWarnings } from '../survey/survey.ts'
import { followMount, mountGone, mountSilent, withReadFailure } from './mount-during-recovery.ts'

export interface RecoverStepOptions {
  readonly settings: Pick<PreflightSettings, 'mountRoot' | 'cacheRoot'>
  readonly room: CacheShares
  readonly isolation: IsolationSettings
  readonly watch: SessionWatch
  readonly changes: SessionChanges
  readonly logger: Logger
}

const START_FAILED =
  'PostgreSQL did not start; the last lines of the logs of the session, which are removed with it'

export function recoverStep(options: RecoverStepOptions): StepHandler<'recover'> {
  const { settings, room, watch, changes, logger } = options

  /** Starts or advances the instance, and begins to watch it. @throws what `startInstance` does */
  async function start(
    session: PublishedSession,
    mount: MountProcess,
    { signal, progress }: Pick<StepContext, 'signal' | 'progress'>,
  ): Promise<RecoverResult> {
    // A full write cache keeps PostgreSQL from starting, and only a running one could free space in it.
    if (await isRecovered(session)) await mount.starting()
    const shareBytes = room.shareOf(session.session)
    const result = await startInstance(session, {
      isolation: options.isolation,
      ...(shareBytes !== undefined && { walBytes: setAsideForWal(shareBytes) }),
      logger,
      signal,
      onProgress: progress,
      syncMount: () => mount.sync(),
    })
    // Only speeds up the next publish of this backup; nothing depends on it.
    mount.settled().catch((err: unknown) => logger.warn({ err }, 'what the publish touched was not recorded'))
    if (result.paused === undefined) await saveSession({ ...session, recovered: true })
    const [libraries] = await Promise.all([libraryWarnings(session), changes.begin(session)])
    await watch.add(session)
    return { ...result, warnings: [...result.warnings, ...libraries] }
  }

  /** The error to report for a start that failed. An instance that still runs where it was paused is watched again. */
  async function startError(
    session: PublishedSession,
    error: unknown,
    failedBefore: number,
  ): Promise<unknown> {
    if ((await findInstance(session))?.result !== undefined) {
      await watch.add(session)
      return error
    }
    logger.warn({ session: session.session, log: await logExcerpt(session) }, START_FAILED)
    // Without its mount PostgreSQL fails in many ways; the loss of the mount is the cause.
    const mount = await findMountProcess(session.cachePath)
    return mount === undefined ? mountGone(error) : withReadFailure(error, mount, failedBefore)
  }

  return {
    async run(command, { signal, progress }) {
      const session = await publishedSession(command)
      const mount = await findMountProcess(session.cachePath)
      if (!mount) throw mountGone()
      const failedBefore = (await mount.status().catch(() => undefined))?.failedReadsEver ?? 0
      const ended = new AbortController()
      const stopFollowing = followMount(mount, progress, () => ended.abort(mountSilent()))
      void mount.ended.then(() => ended.abort(mountGone()))
      // Advancing a paused recovery restarts its server, which must not be reported as lost.
      watch.remove(session.session)
      try {
        return await start(session, mount, { progress, signal: AbortSignal.any([signal, ended.signal]) })
      } catch (error) {
        // A superseded step has not failed.
        if (signal.aborted) throw error
        if (ended.signal.aborted) throw ended.signal.reason
        throw await startError(session, error, failedBefore)
      } finally {
        stopFollowing()
      }
    },
    async undo(command, { orphan }) {
      watch.remove(command.session)
      const parts = await teardownOf(command, settings, orphan, logger)
      const outcome = await endInstance(parts)
      const port = parts.instance?.port
      return { undone: outcome === 'absent' ? [] : [`stopped PostgreSQL on port ${port}`] }
    },
  }
}
