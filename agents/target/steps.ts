/**
 * The target's steps of a session: `preflight`, `mount`, `recover`. Each finds on this machine what there is already,
 * so it may be run or undone any number of times, by any agent process.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { Logger } from 'pino'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { StepCommand, StepInput } from '../../messages/steps.ts'
import type { StepContext, StepHandler } from '../runtime/step-runner.ts'
import type { SessionChanges } from './changes/session-changes.ts'
import type { Credentials } from './export/destinations/credentials.ts'
import { exportStep } from './export/export-step.ts'
import { isMounted } from './filesystem/drivers/mount-table.ts'
import type { JournalIdentity } from './filesystem/durability/journal.ts'
import type { IsolationSettings } from './isolation/isolation.ts'
import type { SpareMountProgram } from './mount-process/agent/launch.ts'
import {
  findMountProcess,
  type MountProcess,
  SILENCE_MS,
  startMountProcess,
} from './mount-process/agent/mount-process.ts'
import type { MountSpec } from './mount-process/mount-spec.ts'
import { findInstance, startInstance } from './postgres/instance.ts'
import { isRecovered } from './postgres/recovery/first-recovery.ts'
import { preflight } from './preflight/preflight.ts'
import { removeRoot } from './preflight/roots.ts'
import { directoryProblems } from './preflight/safe-directory.ts'
import { prepareSessionDirectories } from './preflight/session-directories.ts'
import type { PreflightSettings } from './preflight/settings.ts'
import type { AgeingLock } from './room/ageing-lock.ts'
import type { CacheQuota } from './room/cache-quota.ts'
import { createFetchedBudget } from './room/fetched-budget.ts'
import { createReleasedPorts } from './room/released-ports.ts'
import { logExcerpt } from './session/log-excerpt.ts'
import { requireMountAccess } from './session/mount-access.ts'
import {
  type PublishedSession,
  publishedSession,
  readSession,
  saveSession,
} from './session/published-session.ts'
import type { SessionWatch } from './session/session-watch.ts'
import { endInstance, endMount, type Teardown } from './session/teardown.ts'
import { libraryWarnings } from './survey/survey.ts'

export interface TargetStepsOptions {
  readonly settings: PreflightSettings
  /** PEM files that mount processes show to the mount server. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly room: CacheQuota
  /** Bytes that local copies of fetched blocks may take, of all backups together. */
  readonly fetchedBytes: number
  /** What keeps instances apart from the rest of this machine. */
  readonly isolation: IsolationSettings
  readonly readDeadlineMs: number
  readonly watch: SessionWatch
  readonly changes: SessionChanges
  /** How destinations of exports are entered, by name. */
  readonly credentials: Credentials
  readonly spare: SpareMountProgram
  /** Of the root of all write caches. */
  readonly ageingLock: AgeingLock
  /** Ports that sessions of this target have, by session; 0: not chosen yet. */
  readonly ports: Map<string, number>
  readonly logger: Logger
}

export interface TargetSteps {
  readonly preflight: StepHandler<'preflight'>
  readonly mount: StepHandler<'mount'>
  readonly recover: StepHandler<'recover'>
  readonly export: StepHandler<'export'>
}

export function targetSteps(options: TargetStepsOptions): TargetSteps {
  const { settings, tls, watch, room, changes, spare, ports, logger } = options
  const cachePathOf = (session: string): string => `${settings.cacheRoot}/${session}`

  const held = createReleasedPorts(settings.portRange)
  const fetchedRoom = createFetchedBudget({
    cacheRoot: settings.cacheRoot,
    budgetBytes: options.fetchedBytes,
    logger,
  })

  async function mountSpec(
    session: PublishedSession,
    { repository, instance, resolved }: StepInput,
  ): Promise<MountSpec> {
    const { host, port, ticket, mountAgent } = session.dataPlane
    const quotaBytes = room.quotaOf(session.session)
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
      fetched: { directory: fetchedRoom.directory, budgetBytes: options.fetchedBytes },
      ...(quotaBytes !== undefined && { quotaBytes }),
      reserveBytes: settings.reserveBytes,
      readDeadlineMs: options.readDeadlineMs,
      ...(firstWal !== undefined && { firstWal }),
    }
  }

  /** Once it is full nobody could make room in it before PostgreSQL has started, nor could that start. */
  async function reserveStartSpace(session: string, mount: MountProcess): Promise<void> {
    const { changedBytes } = await mount.status()
    room.takes(session, { changedBytes, otherBytes: 0 })
    const quotaBytes = room.quotaOf(session)
    if (quotaBytes !== undefined) await mount.limit(quotaBytes)
    await mount.starting()
  }

  /** What a session's steps may have left here, from its files or, where these are gone, from the command. */
  async function teardownOf(command: StepCommand, orphan: Promise<void> | undefined): Promise<Teardown> {
    const { session, input } = command
    const [mountPoint, cachePath] = [`${settings.mountRoot}/${session}`, cachePathOf(session)]
    const instance = readSession(cachePath) ?? (await publishedSession(command).catch(() => undefined))
    const keepCache = input.keepCache === true
    const mode = keepCache ? 'fast' : 'immediate'
    return { session, mountPoint, cachePath, instance, keepCache, mode, orphan, logger }
  }

  return {
    preflight: {
      async run({ session, input }, { signal }) {
        // From now on the session counts, so that nobody takes the roots away below it.
        ports.set(session, ports.get(session) ?? 0)
        const takenByOthers = (): Set<number> =>
          new Set([...ports].filter(([id]) => id !== session).map(([, port]) => port))
        for (;;) {
          const reservedPorts = takenByOthers()
          if (input.options.port === undefined) for (const port of held.ports()) reservedPorts.add(port)
          const result = await preflight({ session, input, settings, reservedPorts, signal })
          // Sessions that begin together find the same port free.
          if (takenByOthers().has(result.port)) continue
          ports.set(session, result.port)
          return result
        }
      },
      async undo({ session, input }) {
        // A write cache that is kept is for another publish on the same port.
        if (input.keepCache && readSession(cachePathOf(session))?.kept) return { undone: [] }
        held.release(ports.get(session))
        ports.delete(session)
        if (ports.size === 0) {
          await removeRoot(settings.mountRoot)
          await removeRoot(settings.cacheRoot)
        }
        return { undone: [] }
      },
    },

    mount: {
      async run(command, { signal, orphan }) {
        const session = await publishedSession(command)
        const { mountPoint, cachePath, user } = session
        const running = await findMountProcess(cachePath)
        if (!running || !(await running.answers())) {
          // Whatever still runs on a mount that is gone cannot be saved, and would hold on to it.
          const rest = {
            session: session.session,
            mountPoint,
            cachePath,
            instance: session,
            orphan,
            logger,
          }
          await endInstance({ ...rest, keepCache: true, mode: 'immediate' })
          await endMount({ ...rest, keepCache: true, mode: 'immediate' })
          if (command.input.resumes) requireChanges(session)
          await discardInterruptedRecovery(session)
          signal.throwIfAborted()
          await requireRoots(settings)
          options.ageingLock.take()
          await prepareSessionDirectories({ mountPoint, cachePath, uid: user.uid, gid: user.gid })
          const journal = await journalOf(session)
          await saveSession({ ...session, journal: journal.id })
          await fetchedRoom.trim()
          room.joins(session.session)
          const launch = () => spare.take()
          const spec = { ...(await mountSpec(session, command.input)), journal }
          await startMountProcess(spec, { logger, launch, signal })
        } else {
          // The preflight may have chosen another port since.
          await saveSession(session)
        }
        await requireMountAccess(session, signal)
        return { mountPoint, cachePath }
      },
      async undo(command, { orphan }) {
        const parts = await teardownOf(command, orphan)
        const { session, mountPoint, cachePath, instance, keepCache } = parts
        const undone: string[] = []
        await endInstance(parts)
        if (await endMount(parts)) undone.push(`unmounted ${mountPoint}`)
        if (await removeMountPoint(mountPoint)) undone.push(`removed ${mountPoint}`)
        if (keepCache && instance && existsSync(cachePath)) {
          await saveSession({ ...instance, kept: true })
          await room.keeps(session, cachePath)
          undone.push(`kept the write cache ${cachePath}`)
        } else {
          if (existsSync(cachePath)) undone.push(`removed the write cache ${cachePath}`)
          await rm(cachePath, { recursive: true, force: true, maxRetries: 5 })
          room.gone(session)
        }
        await fetchedRoom.trim()
        return { undone }
      },
    },

    recover: {
      async run(command, { signal, progress }) {
        const session = await publishedSession(command)
        const mount = await findMountProcess(session.cachePath)
        if (!mount) throw mountGone()
        const failedBefore = (await mount.status().catch(() => undefined))?.failedReadsEver ?? 0
        const ended = new AbortController()
        const stopCounting = followMount(mount, progress, () => ended.abort(mountSilent()))
        void mount.ended.then(() => ended.abort(mountGone()))
        // Moving a paused recovery on ends its server, which is no loss.
        watch.remove(session.session)
        try {
          if (await isRecovered(session)) await reserveStartSpace(session.session, mount)
          const result = await startInstance(session, {
            isolation: options.isolation,
            logger,
            signal: AbortSignal.any([signal, ended.signal]),
            onProgress: progress,
            syncMount: () => mount.sync(),
          })
          // The next publish does not depend on it.
          mount
            .settled()
            .catch((err: unknown) => logger.warn({ err }, 'what the publish touched was not recorded'))
          if (result.paused === undefined) await saveSession({ ...session, recovered: true })
          const [libraries] = await Promise.all([libraryWarnings(session), changes.begin(session)])
          await watch.add(session)
          return { ...result, warnings: [...result.warnings, ...libraries] }
        } catch (error) {
          // A step that was superseded did not fail.
          if (signal.aborted) throw error
          if (ended.signal.aborted) throw ended.signal.reason
          if ((await findInstance(session))?.result !== undefined) {
            // It cannot be moved to where it was told to, and stands where it stood.
            await watch.add(session)
            throw error
          }
          logger.warn({ session: session.session, log: await logExcerpt(session) }, START_FAILED)
          // Without its mount PostgreSQL fails in a hundred ways; that is the one that counts.
          const left = await findMountProcess(session.cachePath)
          if (left === undefined) throw mountGone(error)
          throw await withReadFailure(error, left, failedBefore)
        } finally {
          stopCounting()
        }
      },
      async undo(command, { orphan }) {
        watch.remove(command.session)
        const parts = await teardownOf(command, orphan)
        const outcome = await endInstance(parts)
        const port = parts.instance?.port
        return { undone: outcome === 'absent' ? [] : [`stopped PostgreSQL on port ${port}`] }
      },
    },

    export: exportStep({
      credentials: options.credentials,
      changes,
      reserveBytes: settings.reserveBytes,
      cachePathOf,
      logger,
    }),
  }
}

/** A reboot since the preflight may have emptied /tmp: makes the roots again, as safe as they were. */
async function requireRoots({ mountRoot, cacheRoot }: PreflightSettings): Promise<void> {
  for (const root of [mountRoot, cacheRoot]) {
    const [problem] = await directoryProblems(root, undefined)
    if (problem !== undefined) throw new HowdahError('path_unsafe', problem)
  }
}

/** Without what was changed, the instance would come back as it was in the backup, as if nothing had happened. */
function requireChanges({ session, cachePath }: PublishedSession): void {
  if (readSession(cachePath)) return
  throw new HowdahError(
    'cache_unusable',
    `the write cache ${cachePath} is gone, and with it what was changed in ${session}; "howdah republish ${session}" publishes it anew from the backup`,
  )
}

/**
 * Takes away a write cache whose first recovery ended with its mount: that runs without fsync, so what is there may be
 * of different moments. Nothing of anybody is in it yet, and it begins anew from the backup.
 */
async function discardInterruptedRecovery(session: PublishedSession): Promise<void> {
  const { cachePath } = session
  if (await isRecovered(session)) return
  // The file that says that it was recovered is gone, and who knows what else.
  if (readSession(cachePath)?.recovered) {
    throw new HowdahError(
      'cache_unusable',
      `files of the write cache ${cachePath} are gone, so what was changed in ${session.session} cannot be trusted; "howdah republish ${session.session}" publishes it anew from the backup`,
    )
  }
  await rm(cachePath, { recursive: true, force: true })
}

/** Which journal the write cache has, or shall have when nothing of the session was ever usable. */
async function journalOf(session: PublishedSession): Promise<JournalIdentity> {
  return { id: readSession(session.cachePath)?.journal ?? randomUUID(), fresh: !(await isRecovered(session)) }
}

function mountGone(cause?: unknown): HowdahError {
  return new HowdahError('mount_failed', 'the mount process ended while PostgreSQL was starting', { cause })
}

function mountSilent(): HowdahError {
  const message = `the mount process did not answer for ${SILENCE_MS / 1000} s while PostgreSQL was starting`
  return new HowdahError('mount_failed', message)
}

const START_FAILED =
  'PostgreSQL did not come up; what the logs of the session say last, before they go with it'

/**
 * PostgreSQL tells of a failed read without its reason, which the mount knows: the error with it, where there is one.
 * Reads that failed because the mount server is away pass by themselves, and so does what PostgreSQL made of them.
 */
async function withReadFailure(error: unknown, mount: MountProcess, failedBefore: number): Promise<unknown> {
  const status = await mount.status().catch(() => undefined)
  if (status === undefined) return error
  const unanswered = status.failedReadsEver > failedBefore
  if (!unanswered && status.lastError === undefined) return error
  const reason = status.lastError ?? 'the mount server did not answer in time.'
  const { message, field, details, ...failure } = errorBody(error)
  const code = unanswered ? 'repository_unavailable' : failure.code
  return new HowdahError(code, `${message} The mount says: ${reason}`, {
    cause: error,
    ...(field !== undefined && { field }),
    ...(details !== undefined && { details }),
  })
}

/** Reports how much the mount fetches while a step goes on, and when it hangs; call what it gives to stop. */
function followMount(
  mount: MountProcess,
  progress: StepContext['progress'],
  onSilence: () => void,
): () => void {
  const timer = setInterval(() => {
    if (mount.hangs) onSilence()
    mount
      .status()
      .then(({ fetchedBytes }) => progress({ bytesDone: fetchedBytes }))
      .catch(() => undefined)
  }, COUNT_EVERY_MS)
  return () => clearInterval(timer)
}

const COUNT_EVERY_MS = 300

/** Removes a mount point and what somebody put below it while nothing was mounted. False: there was none. */
async function removeMountPoint(mountPoint: string): Promise<boolean> {
  if (!existsSync(mountPoint)) return false
  if (isMounted(mountPoint)) throw new HowdahError('mount_failed', `${mountPoint} is mounted again`)
  await rm(mountPoint, { recursive: true, force: true })
  return true
}
