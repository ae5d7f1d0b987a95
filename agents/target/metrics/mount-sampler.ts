/**
 * Asks the mount processes of a target regularly what they count and use, so that whoever asks the agent for metrics never
 * waits for one. A mount process that does not answer is asked again when it has; what it said last stays.
 */
import type { Logger } from 'pino'
import { identify } from '../../../config/process-identity.ts'
import type { MountProcess } from '../mount-process/agent/mount-process.ts'
import type { MountStatus } from '../mount-process/control-socket.ts'
import { createMountTotals, type MountTotals } from './mount-totals.ts'

/** A session with its mount process, as the sampler needs it. */
export interface SampledMount {
  readonly session: string
  readonly mount: Pick<MountProcess, 'pid' | 'status' | 'measurements'>
}

export interface MountSample {
  readonly status: MountStatus
}

export interface MountSampler {
  readonly totals: MountTotals
  /** What each mount said last, by session. */
  readonly samples: ReadonlyMap<string, MountSample>
  /** Asks all now; resolves when all have answered or failed. Never rejects. */
  sample(): Promise<void>
  close(): void
}

export interface MountSamplerOptions {
  readonly mounts: () => readonly SampledMount[]
  /** Whether the process served before this agent: what it did then is not of the agent's time. Default: by when both started. */
  readonly isAdopted?: (pid: number) => boolean
  readonly everyMs?: number
  readonly logger: Logger
}

const EVERY_MS = 5_000

export function createMountSampler(options: MountSamplerOptions): MountSampler {
  const { mounts, isAdopted = startedEarlier, everyMs = EVERY_MS, logger } = options
  const totals = createMountTotals()
  const samples = new Map<string, MountSample>()
  const asked = new Set<number>()

  async function ask({ session, mount }: SampledMount): Promise<void> {
    if (asked.has(mount.pid)) return
    asked.add(mount.pid)
    try {
      const [status, measured] = await Promise.all([
        mount.status(),
        // One of an earlier release counts nothing.
        mount.measurements().catch(() => undefined),
      ])
      samples.set(session, { status })
      if (measured !== undefined) totals.add(mount.pid, measured, isAdopted(mount.pid))
    } catch (err) {
      // The watch over the session reports a mount process that does not answer.
      logger.debug({ err, session }, 'a mount process was not measured')
    } finally {
      asked.delete(mount.pid)
    }
  }

  async function sample(): Promise<void> {
    const present = mounts()
    const sessions = new Set(present.map(({ session }) => session))
    for (const session of samples.keys()) if (!sessions.has(session)) samples.delete(session)
    totals.keep(new Set(present.map(({ mount }) => mount.pid)))
    await Promise.all(present.map(ask))
  }

  const timer = setInterval(() => void sample(), everyMs)
  timer.unref()
  return { totals, samples, sample, close: () => clearInterval(timer) }
}

/** Whether a process was started before this one. */
function startedEarlier(pid: number): boolean {
  const own = Number(identify(process.pid)?.startTime ?? 0)
  return Number(identify(pid)?.startTime ?? own) < own
}
