/**
 * The agent's side of mount processes: start one, find one again after the agent's restart, ask it, stop it. They
 * outlive the agent; what ties them together is the write cache's directory.
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
import { askControl, type MountStatus } from '../control-socket.ts'
import { cachePaths, type MountSpec, writeMountSpec } from '../mount-spec.ts'
import { clearDeadMount } from './dead-mount.ts'
import { launch } from './launch.ts'
import { mountIdentities, recordedMount } from './mount-identity.ts'

export interface MountProcess {
  readonly pid: number
  readonly mountPoint: string
  /** @throws HowdahError `timeout` | `mount_failed` */
  status(): Promise<MountStatus>
  /** It was asked for its status and has said nothing for `SILENCE_MS`, so whoever uses its mount waits. */
  readonly hangs: boolean
  /** Makes everything that was written durable. @throws HowdahError `timeout` | `mount_failed` */
  sync(): Promise<void>
  /** PostgreSQL is started again, until `settled`: a full write cache has room for that. @throws as `sync` */
  starting(): Promise<void>
  /** The published instance can be used: what was touched until now is what the next publish fetches ahead. @throws as `sync` */
  settled(): Promise<void>
  /** Bytes that changes may take from now on. @throws HowdahError `timeout` | `mount_failed` */
  limit(quotaBytes: number): Promise<void>
  /** Whether the write cache has what its journal tells of. @throws as `sync` */
  verify(): Promise<ChangeFindings>
  /** Whether it answers; a process that is stopped does not, and everybody on its mount waits. Never rejects. */
  answers(): Promise<boolean>
  /**
   * Unmounts in order, everything durable; resolves when the process has ended. When files on the mount are in use, or
   * it does not answer, the mount is ended anyway: `sync` says that what reached it is to be durable first, as far as it
   * answers; `discard` that nobody will read it again.
   * @throws HowdahError `mount_failed` when files on the mount are in use and neither is given; `timeout`
   */
  stop(options?: { readonly inUse?: 'refuse' | 'sync' | 'discard' }): Promise<void>
  /** Resolves when the process has ended, whatever ended it. */
  readonly ended: Promise<void>
}

export interface StartMountDependencies {
  readonly logger: Logger
  /** Milliseconds until the mount must answer. */
  readonly deadlineMs?: number
  /** Gives a program that waits for its orders, e.g. a spare one; default: a new one. */
  readonly launch?: () => ChildProcess
  /** Gives up, and takes away what was begun. */
  readonly signal?: AbortSignal
}

/** Shorter than what waits for a mount waits, so that the mount is named as the cause. Milliseconds. */
export const SILENCE_MS = 20_000
const ANSWER_DEADLINE_MS = 5000
const STOP_DEADLINE_MS = 30_000
/** A process that does not say within this time how it is does not serve its mount either. */
const PROBE_DEADLINE_MS = 3_000
const LIVENESS_MS = 250
const EXIT_GRACE_MS = 300
const SHOWN_LOG_LINES = 5

/**
 * Mounts a session in a process of its own; gives the one that is there already when it is. Safe to repeat.
 * @throws HowdahError what the process died of, else `mount_failed` with its last log lines
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
  // A program that died says so by its exit.
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(`${specPath}\n`)
  try {
    await waitUntilReady(child, deadlineMs, signal)
  } catch (cause) {
    // It may wait for its own mount, which then must go before it can end.
    await clearDeadMount(spec.mountPoint)
    if (child.pid !== undefined && identify(child.pid) !== undefined) child.kill('SIGKILL')
    await clearDeadMount(spec.mountPoint)
    signal?.throwIfAborted()
    throw startFailure(spec, paths.log, cause)
  }
  child.unref()
  const identity = child.pid === undefined ? undefined : identify(child.pid)
  if (identity === undefined) throw startFailure(spec, paths.log)
  logger.info({ session: spec.session, pid: identity.pid, mountPoint: spec.mountPoint }, 'mounted')
  return mountProcess(identity, spec)
}

/** The mount process that serves this write cache, once it answers or after 5 s; undefined when there is none alive. */
export async function findMountProcess(cachePath: string): Promise<MountProcess | undefined> {
  const found = recordedMount(cachePath)
  if (found === undefined) return undefined
  const { identity, spec } = found
  const giveUp = Date.now() + ANSWER_DEADLINE_MS
  // It may be on its way up.
  while (isAlive(identity)) {
    try {
      await askControl<MountStatus>(cachePaths(cachePath).socket, 'status', ANSWER_DEADLINE_MS)
      return mountProcess(identity, spec)
    } catch {
      // Silent, but it holds the mount: it can be asked again, and stopped by force.
      if (Date.now() >= giveUp) return mountProcess(identity, spec)
      await sleep(LIVENESS_MS)
    }
  }
  return undefined
}

/**
 * Every mount process of a session that is alive, also one whose write cache was damaged or removed under it: these are
 * known by the title that they give themselves. Waits for nobody.
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

  /** Since when no status that was asked for came. */
  let silentSince: number | undefined

  async function status(): Promise<MountStatus> {
    const asked = Date.now()
    try {
      const told = await askControl<MountStatus>(socket, 'status', ANSWER_DEADLINE_MS)
      silentSince = undefined
      return told
    } catch (error) {
      silentSince ??= asked
      throw error
    }
  }

  async function answers(): Promise<boolean> {
    return askControl(socket, 'status', PROBE_DEADLINE_MS).then(
      () => true,
      () => false,
    )
  }

  async function orderly(): Promise<void> {
    if (!(await answers()) && isAlive(identity)) {
      throw new HowdahError('timeout', `the mount process ${identity.pid} does not answer`)
    }
    try {
      await askControl(socket, 'unmount', STOP_DEADLINE_MS)
    } catch (error) {
      // It may have ended before its answer was read.
      await waitUntilEnded(identity, EXIT_GRACE_MS).catch(() => {
        throw error
      })
    }
    await waitUntilEnded(identity, STOP_DEADLINE_MS)
  }

  /** Though files be in use. The mount goes first: its process, or whoever else waits for it, cannot end before. */
  async function end(sync: boolean): Promise<void> {
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
    async limit(bytes) {
      await askControl(socket, { request: 'quota', bytes }, ANSWER_DEADLINE_MS)
    },
    verify: () => askControl<ChangeFindings>(socket, 'verify', STOP_DEADLINE_MS),
    answers,
    async stop({ inUse = 'refuse' } = {}) {
      try {
        if (isAlive(identity)) await orderly()
      } catch (error) {
        if (inUse === 'refuse') throw error
        await end(inUse === 'sync')
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

/** What the process said last, in words. */
function startFailure(spec: MountSpec, logPath: string, cause?: unknown): HowdahError {
  let lines: string[] = []
  try {
    lines = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-SHOWN_LOG_LINES)
  } catch {
    // Without a log the cause alone has to do.
  }
  const error = fatalError(lines)
  if (error !== undefined) {
    return new HowdahError(error.code, `${spec.mountPoint} was not mounted: ${error.message}`, { cause })
  }
  const said = lines.length > 0 ? `; it said: ${lines.join(' | ')}` : ''
  return new HowdahError('mount_failed', `the mount process of ${spec.session} did not come up${said}`, {
    cause,
  })
}

function fatalError(lines: readonly string[]): ErrorBody | undefined {
  return (parseJson(lines.at(-1) ?? '')?.value as { error?: ErrorBody } | null | undefined)?.error
}
