/** Shows latencies that were counted elsewhere (latencies.ts) as metrics of prom-client. */
import { Counter, type Metric, type Registry } from 'prom-client'
import { LATENCY_BOUNDS, type LatencySnapshot } from './latencies.ts'

export interface LatencyMetricOptions {
  readonly registry: Registry
  /** Ends with `_seconds`. */
  readonly name: string
  readonly help: string
  /** The label that names the kind of request. */
  readonly label: string
  /** Totals since the start of the process, which never decrease. */
  readonly read: () => LatencySnapshot
}

/** Registers a histogram. */
export function latencyMetric({ registry, name, help, label, read }: LatencyMetricOptions): void {
  const values = () =>
    Object.entries(read()).flatMap(([kind, { seconds, counts }]) => {
      let below = 0
      const buckets = counts.map((count, bucket) => {
        below += count
        const le = LATENCY_BOUNDS[bucket] ?? '+Inf'
        return { metricName: `${name}_bucket`, labels: { le, [label]: kind }, value: below }
      })
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels: { [label]: kind }, value: seconds },
        { metricName: `${name}_count`, labels: { [label]: kind }, value: below },
      ]
    })
  const metric = {
    ...{ name, help, type: 'histogram', aggregator: 'sum' },
    get: async () => ({ name, help, type: 'histogram', aggregator: 'sum', values: values() }),
    reset: () => undefined,
  }
  // A registry asks its metrics for no more than a name and `get`; the type is a list of prom-client's own classes.
  registry.registerMetric(metric as unknown as Metric)
}

/** Registers a counter of the bytes that were counted with latencies, of those kinds that have any. */
export function bytesMetric({ registry, name, help, label, read }: LatencyMetricOptions): void {
  new Counter({
    ...{ name, help, labelNames: [label], registers: [registry] },
    collect() {
      this.reset()
      for (const [kind, { bytes }] of Object.entries(read()))
        if (bytes > 0) this.inc({ [label]: kind }, bytes)
    },
  })
}
