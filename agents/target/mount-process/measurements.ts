/**
 * What a mount process counts of its work: the requests of the kernel, and those to the mount server. It has no endpoint; the
 * agent asks for the totals on the control socket.
 */
import { Latencies, type LatencySnapshot, sumOf } from '../../../config/monitoring/latencies.ts'
import type { DataPlaneObserver } from '../../dataplane/client/observer.ts'
import { FUSE_OPERATIONS } from '../filesystem/drivers/fuse-operations.ts'

/** The answer to the control request `measurements`: totals since the mount process started. */
export interface MountMeasurements {
  /** Requests of the kernel, by operation; bytes: of reads and writes. */
  readonly fuse: LatencySnapshot
  /** Requests to the mount server, by what they ask for; bytes: that were received. */
  readonly dataPlane: LatencySnapshot
  /** Files of the WAL archive that PostgreSQL wanted, by whether it has them: how long it waited. */
  readonly wal: LatencySnapshot
  /** Requests to the mount server that failed for good. */
  readonly failures: number
  /** How often the mount server was lost. */
  readonly losses: number
}

export interface Measurements {
  /** Counted by the thread that serves the kernel. */
  readonly fuse: Latencies
  /** Counted by the main thread: what it answers itself. */
  readonly directReads: Latencies
  readonly dataPlane: DataPlaneObserver
  readonly walWanted: (found: boolean, milliseconds: number) => void
  snapshot(): MountMeasurements
}

/** Rows of the data plane's latencies. */
const REQUESTS = ['read', 'wal', 'ranges', 'tree'] as const
const WANTED = ['found', 'missing'] as const

export function createMeasurements(): Measurements {
  const fuse = new Latencies(FUSE_OPERATIONS)
  const directReads = new Latencies(FUSE_OPERATIONS)
  const requests = new Latencies(REQUESTS)
  const wanted = new Latencies(WANTED)
  let failures = 0
  let losses = 0
  return {
    fuse,
    directReads,
    dataPlane: {
      ended(request, milliseconds, bytes) {
        requests.observe(REQUESTS.indexOf(request), milliseconds, bytes)
      },
      failed() {
        failures += 1
      },
      lost() {
        losses += 1
      },
    },
    walWanted(found, milliseconds) {
      wanted.observe(WANTED.indexOf(found ? 'found' : 'missing'), milliseconds, 0)
    },
    snapshot: () => ({
      fuse: sumOf(fuse.snapshot(), directReads.snapshot()),
      dataPlane: requests.snapshot(),
      wal: wanted.snapshot(),
      failures,
      losses,
    }),
  }
}
