/**
 * The first recovery runs without fsync, and everything that it wrote is made durable at its end.
 *
 * PostgreSQL begins a recovery by syncing the whole file system of pg_wal (or every single file), which takes as long as
 * other dirty data there requires: seconds on a busy server. Before the first recovery there is nothing of the instance to
 * sync. So fsync is off until the promotion, and then enabled; what was written meanwhile is synced before the instance is
 * reported as usable. Later starts, after a crash, sync as usual. A first recovery whose mount is lost starts anew from the
 * backup: see steps/mount-step.ts.
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

/** The configuration may contain secrets of production and of the user who published. */
const CONFIG_MODE = 0o600
/** How long PostgreSQL may take to reload its configuration, ms. */
const RELOAD_TIMEOUT = 30_000
/** How long a reload is given when the server cannot be queried, ms. It takes milliseconds. */
const UNVERIFIED_RELOAD = 1000

/** Whether the first recovery has finished, and everything that it wrote is durable. */
export async function isRecovered(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): Promise<boolean> {
  return exists(instancePaths(spec).recovered)
}

/** Writes the configuration file; without fsync until the first recovery has finished. */
export async function writeConfigFile(
  spec: InstanceSpec,
  settings: Settings,
  recovered: boolean,
): Promise<void> {
  const text = configFile(spec, settings, recovered)
  await writeFileAtomically(instancePaths(spec).configFile, text, CONFIG_MODE, 'process', spec.user)
}

/**
 * Enables fsync in a server that has recovered, and makes it reload its configuration.
 * @returns when, in ms since the epoch; undefined if the first recovery had finished before
 */
export async function enableFsync(spec: InstanceSpec, pid: number): Promise<number | undefined> {
  if (await isRecovered(spec)) return undefined
  const paths = instancePaths(spec)
  const file = await readFile(paths.configFile, 'utf8')
  const before = Date.now()
  await writeFileAtomically(paths.configFile, withFsync(file), CONFIG_MODE, 'machine', spec.user)
  process.kill(pid, 'SIGHUP')
  return before
}

/**
 * Makes durable what was written without fsync.
 * @param enabledAt the result of `enableFsync`
 * @param as the login for queries; undefined if none is known
 * @param known the last known state of the server
 */
export async function finishFirstRecovery(
  spec: InstanceSpec,
  enabledAt: number,
  as: Identity | undefined,
  known: ServerState | undefined,
  deps: FirstRecoveryDependencies,
): Promise<void> {
  const paths = instancePaths(spec)
  let state = await awaitReload(spec, enabledAt, as, known, deps.signal)
  // Clients connect as soon as the server is promoted, possibly before fsync is enabled.
  if (as !== undefined && (await endOldStatements(spec, as, deps.signal))) state = await queryState(spec, as)
  await Promise.all([deps.syncMount(), syncWal(paths.pgWal, state?.walSegment)])
  await createDurableMarker(paths.recovered)
}

/** The state of the server once it has reloaded its configuration; undefined without a login. */
async function awaitReload(
  spec: InstanceSpec,
  enabledAt: number,
  as: Identity | undefined,
  known: ServerState | undefined,
  signal: AbortSignal | undefined,
): Promise<ServerState | undefined> {
  const options = signal === undefined ? {} : { signal }
  if (as === undefined) {
    await delay(UNVERIFIED_RELOAD, undefined, options)
    return undefined
  }
  const deadline = performance.now() + RELOAD_TIMEOUT
  let state = known
  while (state === undefined || state.configLoaded < enabledAt) {
    if (performance.now() > deadline)
      throw new HowdahError('timeout', 'PostgreSQL did not reload its configuration within 30 s.')
    await delay(10, undefined, options)
    state = await queryState(spec, as)
  }
  return state
}

/** @throws HowdahError `postgres_failed` when the server refuses a login that it admitted before */
async function queryState(spec: InstanceSpec, as: Identity): Promise<ServerState | undefined> {
  try {
    return await queryServerState(spec, as, RELOAD_TIMEOUT)
  } catch (cause) {
    const { code, message } = cause as { code?: string; message: string }
    const state = code === undefined ? '' : ` (${code})`
    const finding = `PostgreSQL was promoted, but refuses connections: ${message}${state}.`
    throw new HowdahError('postgres_failed', finding, { cause })
  }
}
