/**
 * The agent's side of mount processes: start one, find it again after a restart of the agent, query and stop it. Mount
 * processes outlive the agent; the write cache's directory identifies them.
 *
 * This folder owns the mount process: `agent/` is used by the agent, `program/` is the process from start to end,
 * `threads/` connects its two threads, `services/` does the waiting for the engine. It must not touch its own mount
 * (it would wait for itself), the broker or PostgreSQL.
 *
 * The path of a request: the agent calls a method here, control-socket.ts carries it to program/run-mount-process.ts,
 * which calls the `ServingEngine` (threads/engine-worker.ts), whose call reaches the engine in engine-thread.ts. The path
 * of a read: the engine thread takes it from /dev/fuse; a missing block goes by remote-services.ts or
 * direct-read-ring.ts to the main thread, where local-services.ts reads it over the data plane.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { identify, isAlive, type ProcessIdentity } from '../../../../config/process-identity.ts'
import { type ErrorBody, HowdahError } from '../../../../messages/errors.ts'
import { parseJson } from '../../../../messages/json.ts'
import type { ChangeFindings } from '../../filesystem/durability/verify-changes.ts'
import type { SpaceQuotas } from '../../filesystem/space/change-quota.ts'
import type { SpaceUsage } from '../../filesystem/space/space.ts'
import { askControl, type MountStatus } from '../control-socket.ts'
import type { MountMeasurements } from '../measurements.ts'
import { cachePaths, type MountSpec, writeMountSpec } from '../mount-spec.ts'
import { clearDeadMount } from './dead-mount.ts'
import { launch } from './launch.ts'
import { mountIdentities, recordedMount } from './mount-identity.ts'

export interface MountProcess {
  readonly pid: number
  readonly mountPoint: string
  /** @throws HowdahError `timeout` | `mount_failed` */
  status(): Promise<MountStatus>
  /** What it has counted. @throws as `status`; `unknown_message_type` from one of an earlier release */
  measurements(): Promise<MountMeasurements>
  /** A status request has been unanswered for `SILENCE_MS`: processes that use its mount wait. */
  readonly hangs: boolean
  /** Makes everything written so far durable. @throws HowdahError `timeout` | `mount_failed` */
  sync(): Promise<void>
  /** PostgreSQL is being restarted, until `settled`: it may use the reserved space of a full write cache. @throws as `sync` */
  starting(): Promise<void>
  /** The instance is usable: the blocks touched so far are recorded, for the next publish to prefetch. @throws as `sync` */
  settled(): Promise<void>
  /** What the session uses now. @throws as `sync` */
  usage(): Promise<SpaceUsage>
  /** As `Engine.limit`. @throws HowdahError `timeout` | `mount_failed`; the limits may have been set nevertheless */
  limit(quotas: SpaceQuotas): Promise<SpaceUsage>
  /** Checks the write cache against its journal. @throws as `sync` */
  verify(): Promise<ChangeFindings>
  /** Whether it answers; a stopped process does not, and all users of its mount wait. Never rejects. */
  answers(): Promise<boolean>
  /**
   * Makes everything durable and unmounts; resolves when the process has ended. With `sync` or `discard` the mount is also
   * ended when files on it are in use or the process does not answer: `sync` first makes received writes durable if the
   * process answers, `discard` does not.
   * @throws HowdahError `mount_failed` when files on the mount are in use and neither is given; `timeout`
   */
  stop(options?: { readonly inUse?: 'refuse' | 'sync' | 'discard' }): Promise<void>
  /** Resolves when the process has ended, for whatever reason. */
  readonly ended: Promise<void>
}

export interface StartMountDependencies {
  readonly logger: Logger
  /** Milliseconds until the mount must answer. */
  readonly deadlineMs?: number
  /** Returns a program that waits for its spec, e.g. a spare one; default: starts a new one. */
  readonly launch?: () => ChildProcess
  /** Aborts, and removes what was started. */
  readonly signal?: AbortSignal
}

/** Shorter than the deadlines of operations that wait for a mount, so that the mount is reported as the cause. Milliseconds. */
export const SILENCE_MS = 20_000
const ANSWER_DEADLINE_MS = 5000
const STOP_DEADLINE_MS = 30_000
/** A process that does not answer a status request in this time does not serve its mount either. */
const PROBE_DEADLINE_MS = 3_000
const LIVENESS_MS = 250
const EXIT_GRACE_MS = 300
const SHOWN_LOG_LINES = 5

/**
 * Mounts a session in a process of its own; returns the existing process if there is one. Safe to repeat.
 * @throws HowdahError the error the process ended with, else `mount_failed` with its last log lines
 */
export async function startMountProcess(
  spec: MountSpec,
  dependencies: StartMountDependencies,
): Promise<MountProcess> {
  const running = await findMountProcess(spec.cachePath)
  if (running !== undefined) return running
  const { logger, deadlineMs = 60_000, signal } = dependencies
  const paths = cachePaths(spec.cachePath)
  await clearDeadMount(spec.mountPoint)
  mkdirSync(paths.logDirectory, { recursive: true, mode: 0o700 })
  const specPath = writeMountSpec(spec)
  const child = dependencies.launch?.() ?? launch({ errors: paths.log })
  // The exit event reports a program that died.
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(`${specPath}\n`)
  try {
    await waitUntilReady(child, deadlineMs, signal)
  } catch (cause) {
    // It may be waiting for its own mount, which then has to be removed before it can end.
    await clearDeadMount(spec.mountPoint)
    if (child.pid !== undefined && identify(child.pid) !== undefined) child.kill('SIGKILL')
    await clearDeadMount(spec.mountPoint)
    signal?.throwIfAborted()
    throw startFailure(spec, paths.log, cause)
  }
  child.unref()
  const identity = child.pid === undefined ? undefined : identify(child.pid)
  if (identity === undefined) throw startFailure(spec, paths.log)
  logger.info({ session: spec.session, mountProcess: identity.pid, mountPoint: spec.mountPoint }, 'mounted')
  return mountProcess(identity, spec)
}

/** The live mount process of this write cache, once it answers or after 5 s; undefined when there is none. */
export async function findMountProcess(cachePath: string): Promise<MountProcess | undefined> {
  const found = recordedMount(cachePath)
  if (found === undefined) return undefined
  const { identity, spec } = found
  const giveUp = Date.now() + ANSWER_DEADLINE_MS
  // It may still be starting.
  while (isAlive(identity)) {
    try {
      await askControl<MountStatus>(cachePaths(cachePath).socket, 'status', ANSWER_DEADLINE_MS)
      return mountProcess(identity, spec)
    } catch {
      // It does not answer, but it holds the mount: it can be queried again, and stopped by force.
      if (Date.now() >= giveUp) return mountProcess(identity, spec)
      await sleep(LIVENESS_MS)
    }
  }
  return undefined
}

/**
 * All live mount processes of a session, including those whose write cache was damaged or removed, which are found by
 * their process title. Does not wait.
 */
export function mountProcessesOf(session: {
  readonly session: string
  readonly mountPoint: string
  readonly cachePath: string
}): MountProcess[] {
  return mountIdentities(session).map((identity) => mountProcess(identity, session))
}

function mountProcess(
  identity: ProcessIdentity,
  { cachePath, mountPoint }: Pick<MountSpec, 'cachePath' | 'mountPoint'>,
): MountProcess {
  const { socket } = cachePaths(cachePath)
  const ended = new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      if (isAlive(identity)) return
      clearInterval(timer)
      resolve()
    }, LIVENESS_MS)
    timer.unref()
  })

  /** When the first unanswered status request was sent. */
  let silentSince: number | undefined

  async function status(): Promise<MountStatus> {
    const requestedAt = Date.now()
    try {
      const current = await askControl<MountStatus>(socket, 'status', ANSWER_DEADLINE_MS)
      silentSince = undefined
      return current
    } catch (error) {
      silentSince ??= requestedAt
      throw error
    }
  }

  async function answers(): Promise<boolean> {
    return askControl(socket, 'status', PROBE_DEADLINE_MS).then(
      () => true,
      () => false,
    )
  }

  async function stopCleanly(): Promise<void> {
    if (!(await answers()) && isAlive(identity)) {
      throw new HowdahError('timeout', `the mount process ${identity.pid} does not answer`)
    }
    try {
      await askControl(socket, 'unmount', STOP_DEADLINE_MS)
    } catch (error) {
      // The process may have ended before its answer was read.
      await waitUntilEnded(identity, EXIT_GRACE_MS).catch(() => {
        throw error
      })
    }
    await waitUntilEnded(identity, STOP_DEADLINE_MS)
  }

  /** Also with files in use. The mount is removed first: its process, or another that waits for it, cannot end before. */
  async function stopForcibly(sync: boolean): Promise<void> {
    if (sync && (await answers())) {
      await askControl(socket, 'sync', STOP_DEADLINE_MS).catch(() => undefined)
    }
    await clearDeadMount(mountPoint)
    if (isAlive(identity)) process.kill(identity.pid, 'SIGKILL')
    await waitUntilEnded(identity, STOP_DEADLINE_MS)
  }

  return {
    pid: identity.pid,
    mountPoint,
    ended,
    status,
    measurements: () => askControl<MountMeasurements>(socket, 'measurements', ANSWER_DEADLINE_MS),
    get hangs() {
      return silentSince !== undefined && Date.now() - silentSince >= SILENCE_MS
    },
    async sync() {
      await askControl(socket, 'sync', STOP_DEADLINE_MS)
    },
    async starting() {
      await askControl(socket, 'starting', ANSWER_DEADLINE_MS)
    },
    async settled() {
      await askControl(socket, 'settled', ANSWER_DEADLINE_MS)
    },
    usage: () => askControl<SpaceUsage>(socket, 'usage', ANSWER_DEADLINE_MS),
    limit: ({ quotaBytes = null, shareBytes = null }) =>
      askControl<SpaceUsage>(socket, { request: 'limits', quotaBytes, shareBytes }, ANSWER_DEADLINE_MS),
    verify: () => askControl<ChangeFindings>(socket, 'verify', STOP_DEADLINE_MS),
    answers,
    async stop({ inUse = 'refuse' } = {}) {
      try {
        if (isAlive(identity)) await stopCleanly()
      } catch (error) {
        if (inUse === 'refuse') throw error
        await stopForcibly(inUse === 'sync')
      }
      await clearDeadMount(mountPoint)
    },
  }
}

async function waitUntilEnded(identity: ProcessIdentity, deadlineMs: number): Promise<void> {
  const giveUp = Date.now() + deadlineMs
  while (isAlive(identity)) {
    if (Date.now() >= giveUp) {
      throw new HowdahError('timeout', `the mount process ${identity.pid} did not end in ${deadlineMs} ms`)
    }
    await sleep(20)
  }
}

async function waitUntilReady(
  child: ChildProcess,
  deadlineMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const ready = child.stdio[3] as Readable
  let timer: NodeJS.Timeout | undefined
  let aborted = (): void => undefined
  try {
    signal?.throwIfAborted()
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no mount within ${deadlineMs} ms`)), deadlineMs)
      aborted = () => reject(signal?.reason)
      signal?.addEventListener('abort', aborted)
      child.once('error', reject)
      child.once('exit', (code, killed) => reject(new Error(`it ended with ${killed ?? code}`)))
      ready.once('data', () => resolve())
      ready.on('error', reject)
    })
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', aborted)
    ready.destroy()
  }
}

/** The error for a process that did not start: its own, if it logged one, else its last log lines. */
function startFailure(spec: MountSpec, logPath: string, cause?: unknown): HowdahError {
  let lines: string[] = []
  try {
    lines = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-SHOWN_LOG_LINES)
  } catch {
    // Without a log only the cause is reported.
  }
  const error = fatalError(lines)
  if (error !== undefined) {
    return new HowdahError(error.code, `${spec.mountPoint} was not mounted: ${error.message}`, { cause })
  }
  const logged = lines.length > 0 ? `; its log ends: ${lines.join(' | ')}` : ''
  return new HowdahError('mount_failed', `the mount process of ${spec.session} did not start${logged}`, {
    cause,
  })
}

function fatalError(lines: readonly string[]): ErrorBody | undefined {
  return (parseJson(lines.at(-1) ?? '')?.value as { error?: ErrorBody } | null | undefined)?.error
}
