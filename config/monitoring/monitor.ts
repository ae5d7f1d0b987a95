/**
 * What a role can be asked about itself: its metrics and whether it is ready. A role hands in what it knows; who asks, and
 * how, is the endpoint's (endpoint.ts).
 */
import { Registry } from 'prom-client'
import { describeProcess } from './process-metrics.ts'
import { createReadiness, type Look, type Readiness } from './readiness.ts'

export interface Monitor {
  /** Where the metrics of the process are registered. */
  readonly registry: Registry
  /** Adds a part that has to work for the role to be ready. */
  check(part: string, look: Look): void
}

export interface RoleMonitor extends Monitor {
  readonly readiness: Readiness
}

/** `role`: the verb, e.g. `mount-agent`. */
export function createMonitor(role: string): RoleMonitor {
  const registry = new Registry()
  const readiness = createReadiness()
  describeProcess(registry, role)
  return { registry, readiness, check: readiness.check }
}
