/**
 * The first recovery runs without fsync, and everything that it wrote is made durable at its end.
 *
 * PostgreSQL begins a recovery by syncing the whole file system that pg_wal is on (or every file by itself), which
 * takes as long as whatever else is dirty there: seconds on a server that does anything. Before the first recovery
 * there is nothing of the instance to be synced. So fsync is off until it is promoted, then turned on; what was written
 * meanwhile is synced before anybody is told that the instance is there. Later starts, after a crash, sync as ever. A
 * first recovery that ends with its mount begins anew from the backup: see `mount` in steps.ts.
 */
import { open, readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from '../../../messages/errors.ts'
import { configFile } from './configuration.ts'
import { configLoadedSince, type Identity } from './connection.ts'
import { createDurableMark, exists, writeOwnFile } from './own-file.ts'
import { type InstanceSpec, instancePaths } from './specification.ts'

export interface FirstRecoveryDependencies {
  /** Resolves when all that was written to the mount is durable. */
  readonly syncMount: () => Promise<void>
  readonly signal?: AbortSignal
}

/** How long PostgreSQL may take to read its configuration again, ms. */
const RELOAD_TIMEOUT = 30_000
const UNASKED_RELOAD = 1000

/** Whether the instance was usable once, with all that made it so durable. */
export async function isRecovered(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): Promise<boolean> {
  return exists(instancePaths(spec).recovered)
}

/** Writes what the server starts with: without fsync until it has recovered. */
export async function writeConfigFile(spec: InstanceSpec, hasConfigFile: boolean): Promise<void> {
  const synced = await isRecovered(spec)
  await writeOwnFile(
    instancePaths(spec).configFile,
    configFile(spec, hasConfigFile, synced),
    0o644,
    'process',
  )
}

/**
 * Turns fsync on and makes durable what was written without; does nothing when that was done before.
 * @param as whom to ask the server as; undefined when no role is known
 */
export async function finishFirstRecovery(
  spec: InstanceSpec,
  pid: number,
  as: Identity | undefined,
  deps: FirstRecoveryDependencies,
): Promise<void> {
  if (await isRecovered(spec)) return
  const paths = instancePaths(spec)
  const hasConfigFile = await exists(`${paths.data}/postgresql.conf`)
  const before = Date.now()
  await writeOwnFile(paths.configFile, configFile(spec, hasConfigFile, true), 0o644)
  process.kill(pid, 'SIGHUP')
  await untilReloaded(spec, as, before, deps.signal)
  await Promise.all([deps.syncMount(), syncDirectory(paths.pgWal)])
  await createDurableMark(paths.recovered)
}

async function untilReloaded(
  spec: InstanceSpec,
  as: Identity | undefined,
  before: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const options = signal === undefined ? {} : { signal }
  if (as === undefined) {
    // Nobody to ask: reading a configuration takes milliseconds.
    await delay(UNASKED_RELOAD, undefined, options)
    return
  }
  const deadline = performance.now() + RELOAD_TIMEOUT
  while (!(await hasReloaded(spec, as, before))) {
    if (performance.now() > deadline)
      throw new HowdahError('timeout', 'PostgreSQL did not read its configuration again within 30 s.')
    await delay(10, undefined, options)
  }
}

/** @throws HowdahError `postgres_failed` when the server does not let in whom it let in before */
async function hasReloaded(spec: InstanceSpec, as: Identity, time: number): Promise<boolean> {
  try {
    return await configLoadedSince(spec, as, time, RELOAD_TIMEOUT)
  } catch (cause) {
    const { code, message } = cause as { code?: string; message: string }
    const state = code === undefined ? '' : ` (${code})`
    const finding = `PostgreSQL was promoted, but does not let anybody in: ${message}${state}.`
    throw new HowdahError('postgres_failed', finding, { cause })
  }
}

/** Syncs every file of a directory, and the directory; files may go meanwhile. */
async function syncDirectory(directory: string): Promise<void> {
  const names = (await readdir(directory, { withFileTypes: true })).filter((entry) => entry.isFile())
  for (const path of [...names.map(({ name }) => `${directory}/${name}`), directory]) {
    const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    await file?.sync().finally(() => file.close())
  }
}
