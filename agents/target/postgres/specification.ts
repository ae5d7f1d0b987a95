/**
 * The specification of a published instance on the target: the facts that every part of this directory works from, and the
 * paths derived from them. Reads nothing.
 */

import { HowdahError } from '../../../messages/errors.ts'
import { knownVersions, PUBLISHABLE_VERSIONS } from '../../../messages/postgres-versions.ts'
import type { TargetOptions } from '../../../messages/steps.ts'
import type { RecoverTo } from '../../../messages/values.ts'

export interface SystemUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

/** Options of the request. Default: promoted, local, with Howdah's own settings. */
export type InstanceOptions = Readonly<
  Pick<TargetOptions, 'superuser' | 'afterRecovery' | 'listen' | 'settings' | 'hba' | 'allowOutbound'>
>

export interface InstanceSpec extends InstanceOptions {
  readonly session: string
  /** Root of the mount: `data/`, `tblspc/<oid>/`, `wal/`. A canonical path without symbolic links. */
  readonly mountPoint: string
  /** The session's directory made by `prepareSessionDirectories`. */
  readonly cachePath: string
  /** Directory of the PostgreSQL executables of `version`. */
  readonly binaries: string
  /** Major version, e.g. "15" or "9.6". */
  readonly version: string
  readonly user: SystemUser
  readonly port: number
  readonly recoverTo: RecoverTo
  /** Names of the extensions of its databases, as far as they are known. */
  readonly extensions?: readonly string[] | undefined
  /** First and last WAL segment without which the backup is not consistent; for error messages. */
  readonly neededWal?: { readonly first?: string | undefined; readonly last?: string | undefined }
  /** Names in `wal/` of a stopped server's WAL: the instance is started with these, without archive recovery. */
  readonly ownWal?: readonly string[] | undefined
}

export interface InstancePaths {
  readonly data: string
  readonly wal: string
  readonly tablespaces: string
  /** The socket directory, 0700 of the user. */
  readonly run: string
  readonly log: string
  /** Prefetched segments of the archive, which restore_command moves away. */
  readonly readyWal: string
  readonly configuration: string
  readonly hba: string
  readonly ident: string
  readonly configFile: string
  /** The backup's postgresql.auto.conf, extracted from its data directory. */
  readonly automatic: string
  readonly restoreScript: string
  /** Marks that the data directory was prepared for recovery, which must happen only once. */
  readonly armed: string
  /** Marks that the first recovery has finished and everything that it wrote is durable. */
  readonly recovered: string
  /** How far recovery came. */
  readonly reached: string
  /** PostgreSQL's WAL, a local directory. */
  readonly pgWal: string
  readonly record: string
}

export function instancePaths(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): InstancePaths {
  const conf = `${spec.cachePath}/conf`
  return {
    data: `${spec.mountPoint}/data`,
    wal: `${spec.mountPoint}/wal`,
    readyWal: `${spec.cachePath}/ready_wal`,
    tablespaces: `${spec.mountPoint}/tblspc`,
    run: `${spec.cachePath}/run`,
    log: `${spec.cachePath}/log/postgresql.log`,
    configuration: conf,
    hba: `${conf}/pg_hba.conf`,
    ident: `${conf}/pg_ident.conf`,
    configFile: `${conf}/postgresql.conf`,
    automatic: `${conf}/backup.auto.conf`,
    restoreScript: `${conf}/restore-wal.sh`,
    armed: `${conf}/recovery-armed`,
    recovered: `${conf}/recovered`,
    reached: `${conf}/reached.json`,
    pgWal: `${spec.cachePath}/pg_wal`,
    record: `${conf}/postgres.json`,
  }
}

/** Whether recovery is to pause at its target, with the instance read-only. */
export function pausesAfterRecovery({ afterRecovery }: InstanceOptions): boolean {
  return afterRecovery === 'pause'
}

/** Whether recovery is to stop at a point inside the WAL: a time, an LSN, a transaction or a restore point. */
export function hasTarget({ recoverTo: { type } }: Pick<InstanceSpec, 'recoverTo'>): boolean {
  return type !== 'latest' && type !== 'immediate'
}

/** `cluster_name` of a session's instance; the process title of every server process begins with it. */
export function clusterName(session: string): string {
  return `howdah-${session}`
}

/**
 * A major version as a comparable number: 9.6, 10, … 18.
 * @throws HowdahError `backup_unsupported` for what is no version of PostgreSQL that Howdah publishes
 */
export function majorVersion(version: string): number {
  if (!PUBLISHABLE_VERSIONS.includes(version))
    throw new HowdahError(
      'backup_unsupported',
      `The backup is of PostgreSQL ${JSON.stringify(version)}; this release of Howdah publishes ${knownVersions()}.`,
    )
  return Number(version)
}
