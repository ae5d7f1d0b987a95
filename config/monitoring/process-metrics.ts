/** The metrics that every process of Howdah has: what prom-client knows of the process and of Node, and which build it is. */
import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client'
import { version } from '../version.ts'

export function describeProcess(registry: Registry, role: string): void {
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'howdah_build_info',
    help: 'Always 1; the labels say which role of which release runs, on which Node',
    labelNames: ['role', 'version', 'node'],
    registers: [registry],
  }).set({ role, version: version(), node: process.version }, 1)
}
