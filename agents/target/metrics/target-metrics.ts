/** The metrics of a target agent: its sessions, their write caches, and what their mount processes count. */
import { Counter, Gauge, type Registry } from 'prom-client'
import { bytesMetric, latencyMetric } from '../../../config/monitoring/latency-metric.ts'
import { QuietGauge } from '../../../config/monitoring/quiet-gauge.ts'
import type { SessionWatch } from '../session/session-watch.ts'
import type { MountSampler } from './mount-sampler.ts'

export interface TargetMetricsOptions {
  readonly registry: Registry
  readonly sampler: Pick<MountSampler, 'totals' | 'samples'>
  readonly watch: Pick<SessionWatch, 'conditions'>
  /** Bytes of the local copies of fetched blocks. */
  readonly fetchedBytes: () => Promise<number>
  readonly limits: {
    /** Of all write caches together; null: none. */
    readonly cacheBytes: number | null
    /** Of the local copies of fetched blocks. */
    readonly fetchedBytes: number
    readonly sessions: number | null
  }
}

export function targetMetrics({
  registry,
  sampler,
  watch,
  fetchedBytes,
  limits,
}: TargetMetricsOptions): void {
  const registers = [registry]
  const { totals, samples } = sampler

  new Gauge({
    name: 'howdah_target_sessions',
    help: 'Published sessions that the agent watches; whole: mount and PostgreSQL run; lost: one of them does not; cut_off: whole, and their mount server cannot be reached',
    labelNames: ['condition'],
    registers,
    collect() {
      const conditions = watch.conditions()
      for (const condition of ['whole', 'lost', 'cut_off'] as const) {
        this.set({ condition }, conditions.filter((one) => one === condition).length)
      }
    },
  })
  describeLimits(registry, limits)
  new Gauge({
    name: 'howdah_write_cache_bytes',
    help: 'What the sessions have written: changed blocks of files, and pg_wal',
    labelNames: ['content'],
    registers,
    collect() {
      const statuses = [...samples.values()].map(({ status }) => status)
      this.set({ content: 'changes' }, sum(statuses.map(({ changedBytes }) => changedBytes)))
      this.set({ content: 'wal' }, sum(statuses.map(({ walBytes }) => walBytes)))
    },
  })
  new Gauge({
    name: 'howdah_write_cache_fullest_ratio',
    help: 'The highest share of its quota that a session uses for changes; 0: no session has a quota',
    registers,
    collect() {
      const shares = [...samples.values()].map(({ status: { changedBytes, quotaBytes } }) =>
        quotaBytes === null ? 0 : changedBytes / Math.max(1, quotaBytes),
      )
      this.set(Math.max(0, ...shares))
    },
  })
  new QuietGauge({
    name: 'howdah_fetched_blocks_bytes',
    help: 'Local copies of blocks of backups, on disk',
    registers,
    read: async () => [[{}, await fetchedBytes()]],
  })

  new Gauge({
    name: 'howdah_fetches_in_flight',
    help: 'Requests to mount servers that wait for their answers',
    registers,
    collect() {
      this.set(sum([...samples.values()].map(({ status }) => status.fetchesInFlight ?? 0)))
    },
  })

  const operation = { registry, label: 'operation', read: () => totals.fuse }
  latencyMetric({
    ...operation,
    name: 'howdah_fuse_request_seconds',
    help: 'Time from a request of the kernel to its answer, by operation, of all sessions',
  })
  bytesMetric({
    ...operation,
    name: 'howdah_fuse_bytes_total',
    help: 'Bytes that programs read from the mounts and wrote to them, as far as the kernel asked for it',
  })
  const request = { registry, label: 'request', read: () => totals.dataPlane }
  latencyMetric({
    ...request,
    name: 'howdah_fetch_seconds',
    help: 'Time from a request to the mount server to the end of its answer, waiting for a connection included',
  })
  bytesMetric({
    ...request,
    name: 'howdah_fetched_bytes_total',
    help: 'Bytes received from mount servers',
  })
  latencyMetric({
    ...{ registry, label: 'outcome', read: () => totals.wal },
    name: 'howdah_wal_wait_seconds',
    help: 'Time that recovery waited for a file of the WAL archive: until it was there, or known to be missing',
  })
  counter(
    registry,
    'howdah_fetch_failures_total',
    'Requests to mount servers that failed for good',
    () => totals.failures,
  )
  counter(
    registry,
    'howdah_mount_server_losses_total',
    'How often a session lost its mount server',
    () => totals.losses,
  )
}

/** `+Inf` shows that there is no limit, so that a share of it is 0. */
function describeLimits(registry: Registry, limits: TargetMetricsOptions['limits']): void {
  const values = {
    sessions: limits.sessions,
    write_cache_bytes: limits.cacheBytes,
    fetched_blocks_bytes: limits.fetchedBytes,
  }
  const gauge = new Gauge({
    name: 'howdah_target_limit',
    help: 'What the configuration of the agent allows; +Inf: as much as there is room',
    labelNames: ['limit'],
    registers: [registry],
  })
  for (const [limit, value] of Object.entries(values)) gauge.set({ limit }, value ?? Number.POSITIVE_INFINITY)
}

function counter(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    ...{ name, help, registers: [registry] },
    collect() {
      this.reset()
      this.inc(read())
    },
  })
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
