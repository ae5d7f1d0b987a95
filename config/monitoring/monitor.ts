/**
 * What a role can be asked about itself: its metrics and whether it is ready. A role hands in what it knows; who asks, and
 * how, is the endpoint's (endpoint.ts).
 */
import { Registry } from 'prom-client'
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

export function createMonitor(): RoleMonitor {
  const registry = new Registry()
  const readiness = createReadiness()
  return { registry, readiness, check: readiness.check }
}
