/**
 * The life of a published instance's server: start it and wait until it is promoted, find it again, stop it.
 *
 * The server runs detached and outlives the agent. What is known of it is on this machine: its process, and a record
 * beside its configuration, in a directory that only the agent may write to. A finished start is never done twice.
 */
import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { RecoverResult } from '../../../messages/definitions.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { identify, isAlive } from '../../runtime/process-identity.ts'
import { askReadiness } from './connection.ts'
import { armRecovery, removeStalePidFile } from './data-directory.ts'
import { withDeadline } from './deadline.ts'
import { finishFirstRecovery, isRecovered, turnSyncOn } from './first-recovery.ts'
import { prepareConfiguration } from './prepare.ts'
import { findPostmaster, type Postmaster, postmasterAt } from './process-table.ts'
import { type InstanceRecord, readRecord, writeRecord } from './record.ts'
import { mappedSegments } from './shared-memory.ts'
import { type InstanceSpec, instancePaths } from './specification.ts'
import { openLog, type Phase, startFailure } from './startup-log.ts'
import { removeRemains } from './stop.ts'
import { identity } from './user-process.ts'
import { fetchNeededWal } from './wal-ahead.ts'

export interface StartDependencies {
  /** Makes durable what was written to the mount: PostgreSQL's own syncing of a file system does not reach it. */
  readonly syncMount: () => Promise<void>
  readonly logger: Logger
  readonly onProgress?: (progress: { readonly detail: string }) => void
  /** Stops waiting; the server goes on until `stopInstance`. */
  readonly signal?: AbortSignal
  /** How long recovery may take, ms. Default 12 hours: replaying WAL takes what it takes. */
  readonly timeoutMs?: number
}

export interface RunningInstance {
  readonly postmaster: Postmaster
  /** What `startInstance` gave; undefined while it was never found usable. */
  readonly result: RecoverResult | undefined
}

/** A server whose recovery is awaited. */
interface Watched {
  readonly record: InstanceRecord
  /** How it ended, in words; called when it did. */
  readonly ending: () => string
}

/** Pauses between looks at the log, ms: short while a small instance would be through, then longer. */
const QUICK_PAUSE = 5
const QUICK_FOR = 3_000
const LONG_PAUSE = 50
/** Without a hint from the log, the server is asked this often, ms. */
const ASK_EVERY = 2_000
const ASK_TIMEOUT = 30_000
/** For what is read from and written to the mount before the server starts, ms. */
const PREPARE_TIMEOUT = 120_000
const DEFAULT_TIMEOUT = 12 * 60 * 60 * 1000

/**
 * Starts the instance, or adopts it when it runs, and resolves when it is promoted, writable and accepts connections.
 * Repeating it gives the same result.
 * @throws HowdahError `wal_missing` | `target_unreachable` | `port_taken` | `space_low` | `library_missing` |
 * `backup_damaged` | `postgres_failed` | `timeout`; the signal's reason when aborted
 */
export async function startInstance(spec: InstanceSpec, deps: StartDependencies): Promise<RecoverResult> {
  deps.signal?.throwIfAborted()
  const running = await findInstance(spec)
  if (running?.result !== undefined) return running.result
  const began = performance.now()
  const ahead = new AbortController()
  try {
    const watched =
      running === undefined ? await launch(spec, deps, ahead.signal) : await adopt(spec, running.postmaster)
    return await awaitPromotion(spec, watched, deps, began)
  } finally {
    ahead.abort()
  }
}

/** The session's running server, also one that another agent process started. Does not touch the mount. */
export async function findInstance(spec: InstanceSpec): Promise<RunningInstance | undefined> {
  const record = await readRecord(spec)
  const recorded = record === undefined ? undefined : await postmasterAt(record.pid, spec)
  if (record !== undefined && recorded?.startTime === record.startTime)
    return { postmaster: recorded, result: record.result }
  // An agent that died between starting the server and writing the record left none.
  const postmaster = await findPostmaster({ ...spec, uid: spec.user.uid })
  return postmaster === undefined ? undefined : { postmaster, result: undefined }
}

async function launch(spec: InstanceSpec, deps: StartDependencies, ahead: AbortSignal): Promise<Watched> {
  const paths = instancePaths(spec)
  const recovered = await isRecovered(spec)
  if (!recovered) void fetchNeededWal(spec, ahead)
  await removeRemains(spec)
  // What a server that crashed had written must be durable before recovery decides by it.
  if (recovered) await deps.syncMount()
  const [prepared] = await withDeadline(
    Promise.all([prepareConfiguration(spec), armRecovery(spec).then(() => removeStalePidFile(spec))]),
    PREPARE_TIMEOUT,
    `The mount ${spec.mountPoint} did not answer within ${PREPARE_TIMEOUT / 1000} s. See whether the mount server can be reached, and retry.`,
  )
  deps.signal?.throwIfAborted()
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW
  const log = await open(paths.log, flags, 0o640)
  try {
    await log.chown(process.geteuid?.() ?? spec.user.uid, spec.user.gid)
    const logOffset = (await log.stat()).size
    const child = spawn(`${spec.binaries}/postgres`, prepared.arguments, {
      ...identity(spec.user),
      cwd: spec.cachePath,
      detached: true,
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C', HOME: '/' },
      stdio: ['ignore', log.fd, log.fd],
    })
    const pid = await new Promise<number>((resolve, reject) => {
      child.once('error', reject)
      child.once('spawn', () => resolve(child.pid ?? 0))
    }).catch((cause: unknown) => {
      throw new HowdahError(
        'postgres_failed',
        `${spec.binaries}/postgres could not be started: ${String(cause)}`,
        { cause },
      )
    })
    child.unref()
    let ending = 'ended'
    child.once('exit', (code, killed) => {
      ending = killed === null ? `ended with status ${code}` : `was killed by ${killed}`
    })
    const startTime = identify(pid)?.startTime ?? ''
    const record = { pid, startTime, logOffset, segments: [], warnings: prepared.warnings, result: undefined }
    await writeRecord(spec, record)
    deps.logger.info({ session: spec.session, pid, port: spec.port }, 'started PostgreSQL')
    return { record, ending: () => ending }
  } finally {
    await log.close()
  }
}

async function adopt(spec: InstanceSpec, postmaster: Postmaster): Promise<Watched> {
  const ending = () => 'ended'
  const record = await readRecord(spec)
  if (record?.pid === postmaster.pid && record.startTime === postmaster.startTime) return { record, ending }
  const { pid, startTime } = postmaster
  return { record: { pid, startTime, logOffset: 0, segments: [], warnings: [], result: undefined }, ending }
}

async function awaitPromotion(
  spec: InstanceSpec,
  { record, ending }: Watched,
  deps: StartDependencies,
  began: number,
): Promise<RecoverResult> {
  const spawned = performance.now()
  const deadline = spawned + (deps.timeoutMs ?? DEFAULT_TIMEOUT)
  const phases: Partial<Record<Phase | 'prepared' | 'usable' | 'durable', number>> = {
    prepared: Math.round(spawned - began),
  }
  const elapsed = () => Math.round(performance.now() - spawned)
  const log = await openLog(instancePaths(spec).log, record.logOffset)
  let nextAsk = spawned + ASK_EVERY
  let told: number | undefined
  try {
    for (;;) {
      const alive = isAlive(record)
      for (const { detail, phase } of await log.poll()) {
        deps.onProgress?.({ detail })
        if (phase !== undefined) phases[phase] ??= elapsed()
        // Noted early, so that they can be removed if the server is killed in the middle of recovery.
        if (phase === 'redo')
          await writeRecord(spec, { ...record, segments: await mappedSegments(record.pid) })
        if (phase === 'ready') nextAsk = 0
      }
      if (!alive) throw startFailure(spec, log, `${ending()} before the instance was usable`)
      // Before it is asked, so that the answer finds it done.
      if (nextAsk === 0) told ??= await turnSyncOn(spec, record.pid)
      if (performance.now() >= nextAsk) {
        const readiness = await askReadiness(spec, ASK_TIMEOUT)
        if (readiness.state === 'refused')
          throw new HowdahError('postgres_failed', `PostgreSQL refuses connections: ${readiness.reason}`)
        if (readiness.state === 'ready') {
          phases.usable = elapsed()
          told ??= await turnSyncOn(spec, record.pid)
          const { connectedAs, moment } = readiness
          if (told !== undefined) await finishFirstRecovery(spec, told, connectedAs, moment, deps)
          const result = await finish(spec, record, readiness.superuser)
          phases.durable = elapsed()
          deps.logger.info({ session: spec.session, pid: record.pid, phases }, 'PostgreSQL is promoted')
          return result
        }
        nextAsk = performance.now() + ASK_EVERY
      }
      if (performance.now() > deadline)
        throw new HowdahError(
          'timeout',
          `PostgreSQL did not finish recovery in time; it goes on. Its log is ${instancePaths(spec).log}.`,
        )
      const pause = performance.now() - spawned < QUICK_FOR ? QUICK_PAUSE : LONG_PAUSE
      await delay(pause, undefined, deps.signal === undefined ? {} : { signal: deps.signal }).catch(() =>
        deps.signal?.throwIfAborted(),
      )
    }
  } finally {
    await log.close()
  }
}

async function finish(
  spec: InstanceSpec,
  record: InstanceRecord,
  superuser: string | undefined,
): Promise<RecoverResult> {
  const { run } = instancePaths(spec)
  const warnings = [...record.warnings]
  if (superuser === undefined)
    warnings.push(
      `No role "postgres" or "${spec.user.name}" exists in the instance; connect as the superuser that it has.`,
    )
  const result: RecoverResult = {
    connection: { host: run, socketDirectory: run, port: spec.port, user: superuser ?? 'postgres' },
    warnings,
  }
  await writeRecord(spec, { ...record, segments: await mappedSegments(record.pid), result })
  return result
}
