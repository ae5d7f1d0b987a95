/** The metrics of a mount agent: what it serves to targets, and its spool. */
import { Counter, Gauge, type Registry } from 'prom-client'
import { Latencies } from '../../config/monitoring/latencies.ts'
import { bytesMetric, latencyMetric } from '../../config/monitoring/latency-metric.ts'
import type { ServedObserver } from '../dataplane/server/observer.ts'
import type { DataPlaneServer } from '../dataplane/server/server.ts'
import type { Spool } from './spool/spool.ts'

/** By the label: pages of files, WAL, lists of ranges, and trees. A segment of WAL is several requests. */
const REQUESTS = ['read', 'ranges', 'tree', 'wal_read', 'wal_size'] as const

const LABEL_OF: Readonly<Record<Parameters<ServedObserver['answered']>[0], (typeof REQUESTS)[number]>> = {
  read: 'read',
  ranges: 'ranges',
  tree: 'tree',
  walRead: 'wal_read',
  walReadStored: 'wal_read',
  walSize: 'wal_size',
  walStored: 'wal_size',
}

export interface ServedLatencies extends ServedObserver {
  readonly latencies: Latencies
  readonly failures: number
  readonly refusals: number
}

export function servedLatencies(): ServedLatencies {
  const latencies = new Latencies(REQUESTS)
  let failures = 0
  let refusals = 0
  return {
    latencies,
    get failures() {
      return failures
    },
    get refusals() {
      return refusals
    },
    answered(request, milliseconds, bytes) {
      latencies.observe(REQUESTS.indexOf(LABEL_OF[request]), milliseconds, bytes)
    },
    failed() {
      failures += 1
    },
    refused() {
      refusals += 1
    },
  }
}

export interface MountMetricsOptions {
  readonly registry: Registry
  readonly served: ServedLatencies
  readonly server: Pick<DataPlaneServer, 'connections'>
  readonly spool: Pick<Spool, 'usage'>
  /** The maximum size of the spool. */
  readonly spoolBytes: number
}

export function mountMetrics({ registry, served, server, spool, spoolBytes }: MountMetricsOptions): void {
  const registers = [registry]
  const request = { registry, label: 'request', read: () => served.latencies.snapshot() }
  latencyMetric({
    ...request,
    name: 'howdah_served_request_seconds',
    help: 'Time from a request of a target to its answer; of ranges and trees, until all was sent',
  })
  bytesMetric({ ...request, name: 'howdah_served_bytes_total', help: 'Bytes sent to targets' })
  const counters = [
    [
      'howdah_served_failures_total',
      'Requests of targets that were answered by an error',
      () => served.failures,
    ],
    [
      'howdah_data_plane_refusals_total',
      'Connections that were refused: by certificate, ticket or version, or because they broke the protocol',
      () => served.refusals,
    ],
  ] as const
  for (const [name, help, read] of counters) {
    new Counter({
      ...{ name, help, registers },
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  }
  new Gauge({
    name: 'howdah_data_plane_connections',
    help: 'Connections of targets',
    registers,
    collect() {
      this.set(server.connections)
    },
  })
  new Gauge({
    name: 'howdah_spool_bytes',
    help: 'Decoded copies of compressed files',
    registers,
    collect() {
      this.set(spool.usage.bytes)
    },
  })
  new Gauge({
    name: 'howdah_spool_limit_bytes',
    help: 'The maximum size of the spool, as configured',
    registers,
  }).set(spoolBytes)
  new Gauge({
    name: 'howdah_spool_decoding_files',
    help: 'Files that are being decoded',
    registers,
    collect() {
      this.set(spool.usage.decoding)
    },
  })
}
