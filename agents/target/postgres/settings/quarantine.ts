/**
 * Settings that keep a published instance from contacting other servers and from acting as a member of production's
 * cluster. Pure.
 *
 * Parameters and the major versions that have them: release notes and runtime-config pages of each version.
 */

import type { InstanceSpec } from '../specification.ts'
import type { Settings } from './backup-configuration.ts'
import { listensBeyond } from './listening.ts'

export interface Override {
  readonly name: string
  readonly value: string
  /** First and last major version that has the parameter; default: no bound. */
  readonly from?: number
  readonly to?: number
}

export const QUARANTINE: readonly Override[] = [
  { name: 'archive_mode', value: 'off' },
  { name: 'archive_command', value: '' },
  { name: 'archive_library', value: '', from: 15 },
  { name: 'archive_timeout', value: '0' },
  { name: 'synchronous_standby_names', value: '' },
  { name: 'max_logical_replication_workers', value: '0', from: 10 },
  { name: 'sync_replication_slots', value: 'off', from: 17 },
  { name: 'synchronized_standby_slots', value: '', from: 17 },
  { name: 'summarize_wal', value: 'off', from: 17 },
  // WAL retained for standbys would fill the write cache.
  { name: 'wal_keep_segments', value: '0', to: 12 },
  { name: 'wal_keep_size', value: '0', from: 13 },
  { name: 'primary_conninfo', value: '', from: 12 },
  { name: 'primary_slot_name', value: '', from: 12 },
  { name: 'promote_trigger_file', value: '', from: 12, to: 15 },
  { name: 'archive_cleanup_command', value: '', from: 12 },
  { name: 'recovery_end_command', value: '', from: 12 },
  { name: 'recovery_min_apply_delay', value: '0', from: 12 },
  // A switch-over may have left it on in production.
  { name: 'default_transaction_read_only', value: 'off' },
  { name: 'ssl', value: 'off' },
  // If a user enables TLS, production's command must not run.
  { name: 'ssl_passphrase_command', value: '', from: 11 },
  { name: 'bonjour', value: 'off' },
  { name: 'oauth_validator_libraries', value: '', from: 18 },
]

const OFF: ReadonlySet<string> = new Set(['', 'off', 'false', 'no', '0'])

/** Functions of production that are switched off, with the settings that show that they were in use. */
export const SWITCHED_OFF: readonly { readonly what: string; readonly settings: readonly string[] }[] = [
  { what: 'archiving', settings: ['archive_mode'] },
  { what: 'following a primary', settings: ['primary_conninfo', 'primary_slot_name'] },
  { what: 'waiting for synchronous standbys', settings: ['synchronous_standby_names'] },
  { what: 'commands of recovery', settings: ['archive_cleanup_command', 'recovery_end_command'] },
  { what: 'TLS', settings: ['ssl'] },
]

/** Warnings for the user: what production does and the published instance does not. Without values, which may be secret. */
export function quarantineWarnings(spec: InstanceSpec, settings: Settings): string[] {
  const has = (name: string) =>
    !OFF.has((settings.get(name) ?? '').toLowerCase()) && spec.settings?.[name] === undefined
  const off = SWITCHED_OFF.filter(({ settings: names }) => names.some(has)).map(({ what }) => what)
  const warnings: string[] = []
  if (off.length > 0) warnings.push(`Switched off, so that production is not disturbed: ${off.join(', ')}.`)
  const addresses = settings.get('listen_addresses') ?? 'localhost'
  if (!listensBeyond(spec) && listensBeyond({ listen: addresses.split(',').map((each) => each.trim()) }))
    warnings.push('It listens on this machine only, unlike production; "--listen" changes that.')
  if (listensBeyond(spec) && spec.hba === undefined)
    warnings.push(
      'Clients on its network can log in with the roles and passwords of the backup; "--hba-file" changes that.',
    )
  return warnings
}
