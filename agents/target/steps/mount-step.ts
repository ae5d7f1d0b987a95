/** The step `mount`: starts the mount process of a session on its write cache. Its undo ends both, and keeps or removes the cache. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { StepInput } from '../../../messages/steps.ts'
import type { StepHandler } from '../../runtime/step-runner.ts'
import type { SpareMountProgram } from '../mount-process/agent/launch.ts'
import { findMountProcess, startMountProcess } from '../mount-process/agent/mount-process.ts'
import type { MountSpec } from '../mount-process/mount-spec.ts'
import { isRecovered } from '../postgres/recovery/first-recovery.ts'
import { prepareSessionDirectories } from '../preflight/session-directories.ts'
import type { PreflightSettings } from '../preflight/settings.ts'
import type { AgeingLock } from '../room/ageing-lock.ts'
import type { CacheShares } from '../room/cache-shares.ts'
import { createFetchedBudget } from '../room/fetched-budget.ts'
import { requireMountAccess } from '../session/mount-access.ts'
import { type PublishedSession, publishedSession, saveSession } from '../session/published-session.ts'
import { endInstance, endMount, teardownOf } from '../session/teardown.ts'
import {
  discardInterruptedRecovery,
  journalOf,
  removeMountPoint,
  requireChanges,
  requireRoots,
} from './session-cache.ts'

export interface MountStepOptions {
  readonly settings: PreflightSettings
  /** PEM files that mount processes show to the mount server. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly room: CacheShares
  /** Bytes that local copies of fetched blocks may take, of all backups together. */
  readonly fetchedBytes: number
  readonly readDeadlineMs: number
  readonly spare: SpareMountProgram
  /** Of the root of all write caches. */
  readonly ageingLock: AgeingLock
  readonly logger: Logger
}

export function mountStep(options: MountStepOptions): StepHandler<'mount'> {
  const { settings, tls, room, spare, logger } = options
  const fetchedBudget = createFetchedBudget({
    cacheRoot: settings.cacheRoot,
    budgetBytes: options.fetchedBytes,
    logger,
  })

  async function mountSpec(
    session: PublishedSession,
    { repository, instance, resolved }: StepInput,
  ): Promise<MountSpec> {
    const { host, port, ticket, mountAgent } = session.dataPlane
    const { quotaBytes, shareBytes } = await room.reserve(session.session)
    const firstWal = (await isRecovered(session)) ? undefined : session.neededWal.first
    return {
      session: session.session,
      mountPoint: session.mountPoint,
      cachePath: session.cachePath,
      owner: { uid: session.user.uid, gid: session.user.gid },
      allowOther: process.geteuid?.() === 0,
      dataPlane: { host, port, ticket, serverName: mountAgent, tls },
      extraFiles: [],
      ...(resolved && { backup: { repository, instance, label: resolved.backup.label } }),
      fetched: { directory: fetchedBudget.directory, budgetBytes: options.fetchedBytes },
      ...(quotaBytes !== undefined && { quotaBytes }),
      ...(shareBytes !== undefined && { shareBytes }),
      reserveBytes: settings.reserveBytes,
      readDeadlineMs: options.readDeadlineMs,
      ...(firstWal !== undefined && { firstWal }),
    }
  }

  /** Prepares the write cache and starts the mount process. Nothing of an earlier one may be left. */
  async function startMount(session: PublishedSession, input: StepInput, signal: AbortSignal): Promise<void> {
    const { mountPoint, cachePath, user } = session
    if (input.resumes) requireChanges(session)
    await discardInterruptedRecovery(session)
    signal.throwIfAborted()
    await requireRoots(settings)
    options.ageingLock.take()
    await prepareSessionDirectories({ mountPoint, cachePath, uid: user.uid, gid: user.gid })
    const journal = await journalOf(session)
    await saveSession({ ...session, journal: journal.id })
    await fetchedBudget.trim()
    const launch = () => spare.take()
    const spec = { ...(await mountSpec(session, input)), journal }
    room.attach(session.session, await startMountProcess(spec, { logger, launch, signal }))
  }

  return {
    async run(command, { signal, orphan }) {
      const session = await publishedSession(command)
      const { mountPoint, cachePath } = session
      const running = await findMountProcess(cachePath)
      if (running && (await running.answers())) {
        // The preflight may have chosen another port since.
        await saveSession(session)
        room.attach(session.session, running)
      } else {
        // A server on a mount that is gone cannot be saved, and would keep the mount point busy.
        const rest = {
          ...{ session: session.session, mountPoint, cachePath, instance: session, orphan, logger },
          ...{ keepCache: true, mode: 'immediate' as const },
        }
        await endInstance(rest)
        await endMount(rest)
        await startMount(session, command.input, signal)
      }
      await requireMountAccess(session, signal)
      return { mountPoint, cachePath }
    },
    async undo(command, { orphan }) {
      const parts = await teardownOf(command, settings, orphan, logger)
      const { session, mountPoint, cachePath, instance, keepCache } = parts
      const undone: string[] = []
      await endInstance(parts)
      if (await endMount(parts)) undone.push(`unmounted ${mountPoint}`)
      if (await removeMountPoint(mountPoint)) undone.push(`removed ${mountPoint}`)
      if (keepCache && instance && existsSync(cachePath)) {
        await saveSession({ ...instance, kept: true })
        await room.addIdle(session, cachePath)
        undone.push(`kept the write cache ${cachePath}`)
      } else {
        if (existsSync(cachePath)) undone.push(`removed the write cache ${cachePath}`)
        await rm(cachePath, { recursive: true, force: true, maxRetries: 5 })
        room.remove(session)
      }
      await fetchedBudget.trim()
      return { undone }
    },
  }
}
