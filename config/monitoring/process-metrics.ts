/** The metrics that every process of Howdah has: what prom-client knows of the process and of Node, and which build it is. */
import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client'
import { version } from '../version.ts'

/** Of the event loop's delay, ms: what measures it wakes the process up that often. */
const LOOP_PRECISION_MS = 50

/** Begins to measure, which costs a little from then on. `role`: the verb, e.g. `mount-agent`. */
export function describeProcess(registry: Registry, role: string): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LOOP_PRECISION_MS })
  new Gauge({
    name: 'howdah_build_info',
    help: 'Always 1; the labels say which role of which release runs, on which Node',
    labelNames: ['role', 'version', 'node'],
    registers: [registry],
  }).set({ role, version: version(), node: process.version }, 1)
}
