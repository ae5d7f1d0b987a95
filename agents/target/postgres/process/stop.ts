/** Shuts down a published instance's server and removes what a killed one leaves behind. Never touches the mount. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { isAlive, type ProcessIdentity } from '../../../../config/process-identity.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import { killIsolated, removeIsolation } from '../../isolation/isolation.ts'
import { type InstanceSpec, majorVersion } from '../specification.ts'
import { findPostmaster, findServerProcesses } from './process-table.ts'
import { readRecord, removeRecord } from './record.ts'
import { mappedSegments, removeSegments } from './shared-memory.ts'

export interface StopDependencies {
  readonly logger: Logger
  /** `fast` writes a checkpoint, which is only useful if the write cache is kept. Default fast. */
  readonly mode?: 'fast' | 'immediate'
  /** How long each shutdown mode may take, ms. Default 30 s. */
  readonly graceMs?: number
}

/** How the server ended; `absent`: it was not running. */
export type StopOutcome = 'absent' | 'fast' | 'immediate' | 'killed'

const POLL = 10
const KILL_TIMEOUT = 10_000

/**
 * Stops the server: by a fast shutdown, then an immediate one, then SIGKILL. Idempotent, also for a server that is gone.
 * @throws HowdahError `timeout` when a process does not end even when killed, as on a mount that hangs
 */
export async function stopInstance(spec: InstanceSpec, deps: StopDependencies): Promise<StopOutcome> {
  const postmaster = await findPostmaster({ ...spec, uid: spec.user.uid })
  let outcome: StopOutcome = 'absent'
  if (postmaster !== undefined) {
    const segments = await mappedSegments(postmaster.pid)
    outcome = await endPostmaster(postmaster, deps)
    await removeSegments({ ...deadOf(spec), pid: postmaster.pid, mapped: segments })
    deps.logger.info({ session: spec.session, postmaster: postmaster.pid, outcome }, 'stopped PostgreSQL')
  }
  const killed = await killOrphans(spec)
  await removeIsolation(spec)
  await removeRecord(spec)
  return outcome === 'absent' && killed > 0 ? 'killed' : outcome
}

/**
 * Kills orphaned children of a dead postmaster and removes its shared memory.
 * @returns how many processes were killed
 * @throws HowdahError `timeout`
 */
export async function killOrphans(spec: InstanceSpec): Promise<number> {
  killIsolated(spec)
  const killed = await killAll(() => findServerProcesses({ ...spec, uid: spec.user.uid }))
  const record = await readRecord(spec)
  if (record !== undefined)
    await removeSegments({ ...deadOf(spec), pid: record.pid, mapped: record.segments })
  return killed
}

function deadOf({ user, version }: InstanceSpec) {
  return { uid: user.uid, version: majorVersion(version) }
}

async function endPostmaster(postmaster: ProcessIdentity, deps: StopDependencies): Promise<StopOutcome> {
  const grace = deps.graceMs ?? 30_000
  // PostgreSQL documentation, "Shutting Down the Server".
  if (deps.mode !== 'immediate') {
    requestShutdown(postmaster, 'SIGINT')
    if (await ended(postmaster, grace)) return 'fast'
  }
  requestShutdown(postmaster, 'SIGQUIT')
  if (await ended(postmaster, grace)) return 'immediate'
  signal(postmaster, 'SIGKILL')
  if (await ended(postmaster, KILL_TIMEOUT)) return 'killed'
  throw new HowdahError(
    'timeout',
    `PostgreSQL (process ${postmaster.pid}) does not end even when killed; its mount hangs. Unmount it by force and retry.`,
  )
}

async function killAll(find: () => Promise<ProcessIdentity[]>): Promise<number> {
  const killed = new Set<number>()
  const deadline = performance.now() + KILL_TIMEOUT
  for (;;) {
    const processes = await find()
    if (processes.length === 0) return killed.size
    if (performance.now() > deadline)
      throw new HowdahError(
        'timeout',
        `Processes ${processes.map(({ pid }) => pid).join(', ')} of PostgreSQL do not end even when killed; their mount hangs. Unmount it by force and retry.`,
      )
    for (const process of processes) {
      signal(process, 'SIGKILL')
      killed.add(process.pid)
    }
    await delay(POLL)
  }
}

async function ended(process: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  for (let pause = POLL; isAlive(process); pause = Math.min(pause * 1.5, 200)) {
    if (performance.now() > deadline) return false
    await delay(pause)
  }
  return true
}

/** A stopped process (SIGSTOP) handles signals only after it is continued. */
function requestShutdown(process: ProcessIdentity, name: NodeJS.Signals): void {
  signal(process, name)
  signal(process, 'SIGCONT')
}

function signal({ pid }: ProcessIdentity, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
