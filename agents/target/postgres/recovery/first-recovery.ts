/**
 * The first recovery runs without fsync, and everything that it wrote is made durable at its end.
 *
 * PostgreSQL begins a recovery by syncing the whole file system that pg_wal is on (or every file by itself), which
 * takes as long as whatever else is dirty there: seconds on a server that does anything. Before the first recovery
 * there is nothing of the instance to be synced. So fsync is off until it is promoted, then turned on; what was written
 * meanwhile is synced before anybody is told that the instance is there. Later starts, after a crash, sync as ever. A
 * first recovery that ends with its mount begins anew from the backup: see steps/mount-step.ts.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { type Identity, queryServerState, type ServerState } from '../connections/connection.ts'
import { createDurableMarker, exists, writeFileAtomically } from '../process/atomic-file.ts'
import type { Settings } from '../settings/backup-configuration.ts'
import { configFile, withFsync } from '../settings/configuration.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { endOldStatements } from './old-statements.ts'
import { syncWal } from './sync-wal.ts'

export interface FirstRecoveryDependencies {
  /** Resolves when all that was written to the mount is durable. */
  readonly syncMount: () => Promise<void>
  readonly signal?: AbortSignal
}

/** What production has in its configuration may be secret. */
const CONFIG_MODE = 0o640
/** How long PostgreSQL may take to read its configuration again, ms. */
const RELOAD_TIMEOUT = 30_000
const UNASKED_RELOAD = 1000

/** Whether the instance was usable once, with all that made it so durable. */
export async function isRecovered(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): Promise<boolean> {
  return exists(instancePaths(spec).recovered)
}

/** Writes what the server starts with: without fsync until it has recovered. */
export async function writeConfigFile(
  spec: InstanceSpec,
  initial: Settings,
  recovered: boolean,
): Promise<void> {
  const text = configFile(spec, initial, recovered)
  await writeFileAtomically(instancePaths(spec).configFile, text, CONFIG_MODE, 'process', spec.user.gid)
}

/**
 * Tells a server that has recovered to sync what it writes from now on.
 * @returns when that was, ms since the epoch; undefined when it was told before
 */
export async function enableFsync(spec: InstanceSpec, pid: number): Promise<number | undefined> {
  if (await isRecovered(spec)) return undefined
  const paths = instancePaths(spec)
  const file = await readFile(paths.configFile, 'utf8')
  const before = Date.now()
  await writeFileAtomically(paths.configFile, withFsync(file), CONFIG_MODE, 'machine', spec.user.gid)
  process.kill(pid, 'SIGHUP')
  return before
}

/**
 * Makes durable what was written without fsync.
 * @param told when the server was told to sync, by `enableFsync`
 * @param as whom to ask the server as; undefined when no role is known
 * @param known what the server was last found to be like
 */
export async function finishFirstRecovery(
  spec: InstanceSpec,
  told: number,
  as: Identity | undefined,
  known: ServerState | undefined,
  deps: FirstRecoveryDependencies,
): Promise<void> {
  const paths = instancePaths(spec)
  let moment = await untilReloaded(spec, told, as, known, deps.signal)
  // Clients get in as soon as it is promoted, some before it syncs.
  if (as !== undefined && (await endOldStatements(spec, as, deps.signal))) moment = await askAgain(spec, as)
  await Promise.all([deps.syncMount(), syncWal(paths.pgWal, moment?.walSegment)])
  await createDurableMarker(paths.recovered)
}

/** What the server is like once it syncs; undefined when there is nobody to ask. */
async function untilReloaded(
  spec: InstanceSpec,
  told: number,
  as: Identity | undefined,
  known: ServerState | undefined,
  signal: AbortSignal | undefined,
): Promise<ServerState | undefined> {
  const options = signal === undefined ? {} : { signal }
  if (as === undefined) {
    // Nobody to ask: reading a configuration takes milliseconds.
    await delay(UNASKED_RELOAD, undefined, options)
    return undefined
  }
  const deadline = performance.now() + RELOAD_TIMEOUT
  let moment = known
  while (moment === undefined || moment.configLoaded < told) {
    if (performance.now() > deadline)
      throw new HowdahError('timeout', 'PostgreSQL did not read its configuration again within 30 s.')
    await delay(10, undefined, options)
    moment = await askAgain(spec, as)
  }
  return moment
}

/** @throws HowdahError `postgres_failed` when the server does not let in whom it let in before */
async function askAgain(spec: InstanceSpec, as: Identity): Promise<ServerState | undefined> {
  try {
    return await queryServerState(spec, as, RELOAD_TIMEOUT)
  } catch (cause) {
    const { code, message } = cause as { code?: string; message: string }
    const state = code === undefined ? '' : ` (${code})`
    const finding = `PostgreSQL was promoted, but does not let anybody in: ${message}${state}.`
    throw new HowdahError('postgres_failed', finding, { cause })
  }
}
