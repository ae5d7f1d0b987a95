/**
 * The totals of all mount processes of a target, which never decrease while the agent runs: a mount process ends, and the next
 * one of its session counts from nothing. Pure.
 */
import { type LatencySnapshot, sumOf } from '../../../config/monitoring/latencies.ts'
import type { MountMeasurements } from '../mount-process/measurements.ts'

export interface MountTotals extends MountMeasurements {
  /** Takes what a mount process counts now. The first time, what it counted before is left out if it is an adopted one. */
  add(pid: number, measured: MountMeasurements, isAdopted: boolean): void
  /** Forgets the mount processes that are not among these; what they did stays counted. */
  keep(pids: ReadonlySet<number>): void
}

const NOTHING: MountMeasurements = { fuse: {}, dataPlane: {}, wal: {}, failures: 0, losses: 0 }

export function createMountTotals(): MountTotals {
  const last = new Map<number, MountMeasurements>()
  let total = NOTHING

  return {
    get fuse(): LatencySnapshot {
      return total.fuse
    },
    get dataPlane(): LatencySnapshot {
      return total.dataPlane
    },
    get wal(): LatencySnapshot {
      return total.wal
    },
    get failures() {
      return total.failures
    },
    get losses() {
      return total.losses
    },
    add(pid, measured, isAdopted) {
      const before = last.get(pid) ?? (isAdopted ? measured : NOTHING)
      last.set(pid, measured)
      total = {
        fuse: sumOf(total.fuse, sumOf(measured.fuse, {}, before.fuse)),
        dataPlane: sumOf(total.dataPlane, sumOf(measured.dataPlane, {}, before.dataPlane)),
        wal: sumOf(total.wal, sumOf(measured.wal, {}, before.wal)),
        failures: total.failures + Math.max(0, measured.failures - before.failures),
        losses: total.losses + Math.max(0, measured.losses - before.losses),
      }
    },
    keep(pids) {
      for (const pid of last.keys()) if (!pids.has(pid)) last.delete(pid)
    },
  }
}
