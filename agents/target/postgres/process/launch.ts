/**
 * Starts the server of an instance, detached so that it outlives the agent, or adopts one that is running. Owns the process
 * and its record (record.ts) up to stop.ts, which ends both; it neither queries the server nor waits for its recovery.
 */
import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import type { Logger } from 'pino'
import { identify } from '../../../../config/process-identity.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import { ISOLATION_FAILED, isolatedCommand } from '../../isolation/isolated-command.ts'
import { type IsolationSettings, isolateServer, NO_ISOLATION } from '../../isolation/isolation.ts'
import { ADMINISTRATION_PATH } from '../../isolation/programs.ts'
import { tablespaceBindings } from '../../tablespaces/session-tablespaces.ts'
import { prepareDataDirectory, removeStalePidFile } from '../recovery/data-directory.ts'
import { type FirstRecoveryDependencies, isRecovered } from '../recovery/first-recovery.ts'
import { prepareConfiguration } from '../settings/prepare.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { withDeadline } from './deadline.ts'
import type { Postmaster } from './process-table.ts'
import { type InstanceRecord, readRecord, writeRecord } from './record.ts'
import { killOrphans } from './stop.ts'
import { runAs } from './user-process.ts'

export interface LaunchDependencies extends FirstRecoveryDependencies {
  /** How the server is isolated from the rest of the machine. Default: not at all. */
  readonly isolation?: IsolationSettings
  /** Bytes of the write cache that are set aside for WAL. Default: no limit but the disk. */
  readonly walBytes?: number
  readonly logger: Logger
}

/** A server that was started or adopted, and whose recovery is awaited. */
export interface StartedServer {
  readonly record: InstanceRecord
  /** How it ended, in words; to be called after it has ended. */
  readonly ending: () => string
  /** It was already running, and may be usable by now. */
  readonly adopted: boolean
}

/** For reading from and writing to the mount before the server starts, ms. */
const PREPARE_TIMEOUT = 120_000

/** @throws HowdahError `backup_damaged` | `library_missing` | `invalid_message` | `postgres_failed` | `timeout` */
export async function launch(spec: InstanceSpec, deps: LaunchDependencies): Promise<StartedServer> {
  const paths = instancePaths(spec)
  const recovered = await isRecovered(spec)
  await killOrphans(spec)
  // What a crashed server had written must be durable before crash recovery relies on it.
  if (recovered) await deps.syncMount()
  const [prepared] = await withDeadline(
    Promise.all([
      prepareConfiguration(spec, deps.walBytes),
      prepareDataDirectory(spec).then(() => removeStalePidFile(spec)),
    ]),
    PREPARE_TIMEOUT,
    `The mount ${spec.mountPoint} did not answer within ${PREPARE_TIMEOUT / 1000} s. See whether the mount server can be reached, and retry.`,
    deps.signal,
  )
  deps.signal?.throwIfAborted()
  const isolation = deps.isolation ?? NO_ISOLATION
  // Links to it may not exist in the server's own root directory.
  const program = await realpath(`${spec.binaries}/postgres`)
  const isolated = await isolateServer(spec, program, isolation, await tablespaceBindings(spec)).catch(
    (cause: unknown) => {
      if (cause instanceof HowdahError) throw cause
      const reason = `The isolation of the session could not be set up: ${(cause as Error).message}.`
      const remedy = 'Correct that, or disable it by "isolation" in the target agent\'s configuration.'
      throw new HowdahError('isolation_missing', `${reason} ${remedy}`, { cause })
    },
  )
  const isIsolated = isolated.root !== undefined || isolated.cgroup !== undefined
  const server = [program, ...prepared.arguments]
  const [command, ...args] = isIsolated
    ? isolatedCommand(isolated, spec.user, spec.cachePath, server)
    : server
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW
  const log = await open(paths.log, flags, 0o640)
  try {
    await log.chown(process.geteuid?.() ?? spec.user.uid, spec.user.gid)
    const logOffset = (await log.stat()).size
    const child = spawn(command ?? '', args, {
      // Setting up the isolation takes root; the command itself drops its privileges.
      ...(isIsolated ? {} : runAs(spec.user)),
      cwd: spec.cachePath,
      detached: true,
      env: { PATH: ADMINISTRATION_PATH, LANG: 'C', HOME: '/' },
      stdio: ['ignore', log.fd, log.fd],
    })
    const pid = await new Promise<number>((resolve, reject) => {
      child.once('error', reject)
      child.once('spawn', () => resolve(child.pid ?? 0))
    }).catch((cause: unknown) => {
      throw new HowdahError('postgres_failed', `${command} could not be started: ${String(cause)}`, { cause })
    })
    child.unref()
    let ending = 'ended'
    child.once('exit', (code, killed) => {
      ending =
        killed !== null
          ? `was killed by ${killed}`
          : code === ISOLATION_FAILED
            ? 'was not started, since its isolation could not be set up'
            : `ended with status ${code}`
    })
    const startTime = identify(pid)?.startTime ?? ''
    const { recoverTo } = spec
    const { limits } = prepared
    const warnings = [...prepared.warnings, ...(deps.isolation === undefined ? [] : isolated.warnings)]
    const record = { pid, startTime, logOffset, segments: [], warnings, recoverTo, limits, result: undefined }
    await writeRecord(spec, record)
    deps.logger.info({ session: spec.session, postmaster: pid, port: spec.port }, 'started PostgreSQL')
    return { record, ending: () => ending, adopted: false }
  } finally {
    await log.close()
  }
}

/** Adopts a running server whose outcome is not recorded. */
export async function adopt(spec: InstanceSpec, { pid, startTime }: Postmaster): Promise<StartedServer> {
  const known = await readRecord(spec)
  const same = known?.pid === pid && known.startTime === startTime
  const { recoverTo } = spec
  const record = same
    ? known
    : { pid, startTime, logOffset: 0, segments: [], warnings: [], recoverTo, result: undefined }
  return { record, ending: () => 'ended', adopted: true }
}
