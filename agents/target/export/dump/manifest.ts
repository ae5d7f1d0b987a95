/** The manifest of an export: its source, and row counts and hashes to verify it. Pure. */
import type { DatabaseExport, ExportRequest } from '../../../../messages/exports.ts'
import type { StepInput } from '../../../../messages/steps.ts'
import type { Written } from '../destinations/destination.ts'
import type { TableCount } from './dump-progress.ts'

/** The outcome of one database. */
export interface ExportedDatabase {
  readonly status: DatabaseExport
  /** The time of the snapshot, of which dump and counts are. */
  readonly at?: string
  readonly counts?: readonly TableCount[]
  readonly written?: Written
}

export interface ManifestInput {
  readonly session: string
  readonly export: { readonly id: string; readonly request: ExportRequest }
  readonly input: StepInput
  readonly format: string
  readonly databases: readonly ExportedDatabase[]
  readonly startedAt: string
  readonly finishedAt: string
}

export function manifestText(about: ManifestInput): string {
  const { input, export: job } = about
  const { resolved, repository, instance } = input
  const manifest = {
    manifestVersion: 1,
    session: about.session,
    export: job.id,
    repository,
    instance,
    backup: resolved?.backup.label ?? input.backup,
    recoverTo: resolved?.recoverTo ?? input.recoverTo,
    postgresVersion: resolved?.backup.postgresVersion,
    systemIdentifier: resolved?.backup.systemIdentifier,
    format: about.format,
    ...(job.request.tables && { tables: job.request.tables }),
    startedAt: about.startedAt,
    finishedAt: about.finishedAt,
    databases: about.databases.map(databaseEntry),
  }
  return `${JSON.stringify(manifest, undefined, 2)}\n`
}

function databaseEntry({ status, at, counts, written }: ExportedDatabase): object {
  const { database, error, rows } = status
  if (status.status !== 'done') return { database, status: status.status, error }
  return {
    database,
    status: status.status,
    snapshotAt: at,
    rows,
    tables: counts?.map(({ schema, name, rows: count }) => ({ schema, name, rows: count })),
    bytes: written?.bytes,
    files: written?.files,
  }
}
