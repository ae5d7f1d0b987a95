/** The limits for which recovery has minimums: production may have raised them since the backup. Pure. */

import type { ControlData, RecoveryMinimums } from '../recovery/control-file.ts'
import { type InstanceSpec, majorVersion } from '../specification.ts'
import type { Settings } from './backup-configuration.ts'
import { userSettings } from './user-settings.ts'

export interface LimitsInput {
  readonly spec: InstanceSpec
  /** Settings of the backup. */
  readonly backup: Settings
  readonly control: Pick<ControlData, 'limits'>
}

/** PostgreSQL's defaults (postgresql.conf.sample) of these settings. */
export const LIMIT_DEFAULTS: Readonly<Record<keyof RecoveryMinimums, number>> = {
  max_connections: 100,
  max_worker_processes: 8,
  max_wal_senders: 10,
  max_prepared_transactions: 0,
  max_locks_per_transaction: 64,
}

/**
 * Number of replication origins: recovery fails if production had more, and pg_control does not record how many. Each takes
 * less than a kilobyte.
 */
const ORIGINS = 500

/** For Howdah's own connections and the jobs of an export, where production allowed very few. */
const FEWEST_CONNECTIONS = 30

/** Limits that are lower in the backup's configuration than recovery may need, with the settings that they require. */
export function recoveryLimits({ spec, backup, control }: LimitsInput): Map<string, string> {
  const raised = new Map<string, string>()
  for (const name of Object.keys(LIMIT_DEFAULTS) as (keyof RecoveryMinimums)[]) {
    const configured = Number(backup.get(name) ?? LIMIT_DEFAULTS[name])
    const needed = Math.max(control.limits[name] ?? 0, name === 'max_connections' ? FEWEST_CONNECTIONS : 0)
    if (needed > 0 && !(configured >= needed)) raised.set(name, String(needed))
  }
  // PostgreSQL refuses to start with WAL senders at this level.
  if (raised.has('max_wal_senders') && backup.get('wal_level') === 'minimal')
    raised.set('wal_level', 'replica')
  const origins =
    majorVersion(spec.version) >= 18 ? 'max_active_replication_origins' : 'max_replication_slots'
  if (!(Number(backup.get(origins) ?? 0) >= ORIGINS)) raised.set(origins, String(ORIGINS))
  return raised
}

/** The instance's values of these settings, without those that the user chose. */
export function limitsOf(initial: Settings, spec: InstanceSpec): RecoveryMinimums {
  const chosen = userSettings(spec)
  const names = (Object.keys(LIMIT_DEFAULTS) as (keyof RecoveryMinimums)[]).filter(
    (name) => !chosen.has(name),
  )
  return Object.fromEntries(names.map((name) => [name, Number(initial.get(name) ?? LIMIT_DEFAULTS[name])]))
}

/** Whether one of production's limits exceeds that of an instance. */
export function exceeds(
  production: RecoveryMinimums,
  own: Readonly<Partial<Record<keyof RecoveryMinimums, number | undefined>>>,
): boolean {
  return (Object.keys(LIMIT_DEFAULTS) as (keyof RecoveryMinimums)[]).some(
    (name) => (production[name] ?? 0) > (own[name] ?? Number.POSITIVE_INFINITY),
  )
}
