/**
 * Runs one export: chooses the databases, dumps one after another to the destination, and writes the manifest. A database
 * that fails does not keep the others from being exported.
 */
import type { Logger } from 'pino'
import type { DatabaseExport, ExportRequest, ExportResult } from '../../../messages/exports.ts'
import type { StepInput } from '../../../messages/steps.ts'
import type { StepContext } from '../../runtime/step-runner.ts'
import type { Mark } from '../changes/detection.ts'
import type { SessionChanges } from '../changes/session-changes.ts'
import { serverMessage } from '../postgres/connections/client.ts'
import {
  currentAddress,
  type InstanceAddress,
  instanceAddress,
} from '../postgres/connections/instance-client.ts'
import type { PublishedSession } from '../session/published-session.ts'
import type { Destination } from './destinations/destination.ts'
import { requireDumpProgram } from './dump/dump-program.ts'
import { exportDatabase } from './dump/export-database.ts'
import { type ExportedDatabase, manifestText } from './dump/manifest.ts'
import { createPrograms, type Programs } from './dump/programs.ts'
import { awaitSupersession, failedReads } from './interruption.ts'
import { listedDatabases } from './listed-databases.ts'
import { databaseError, exportNotes, exportProgress, mountServerUnreachable } from './outcome.ts'
import type { ExportRecord } from './record.ts'
import { type RecordedDestinationOptions, recordedDestination } from './recorded-destination.ts'
import { type ChosenDatabases, chooseDatabases } from './source/choose-databases.ts'

export interface RunExportOptions extends RecordedDestinationOptions {
  readonly session: PublishedSession
  readonly record: ExportRecord
  /** Of the step; the manifest names the backup from it. */
  readonly input: StepInput
  readonly context: Pick<StepContext, 'signal' | 'progress'>
  readonly logger: Logger
}

/**
 * @throws HowdahError, where pg_dump is missing, no database could be chosen, the destination fails or the mount server is
 *   unreachable
 */
export async function runExport(options: RunExportOptions): Promise<ExportResult> {
  const { session, record, input, context, changes, logger } = options
  const { signal } = context
  const { request, id } = record
  const startedAt = new Date().toISOString()
  await requireDumpProgram(session)
  const address = await currentAddress(await instanceAddress(session))
  const failedBefore = await failedReads(session)
  const { databases, notes } = await choose(session, address, request, changes, context, failedBefore)
  const programs = createPrograms({ session, signal })
  const destination = recordedDestination(options, session, record, databases, { programs, signal })
  const run = createRun({ session, address, request, databases, destination, programs, changes, context })
  const notices = [...notes]
  try {
    await destination.open()
    for (const [index, database] of databases.entries()) {
      const mark = await run.begin(index)
      try {
        notices.push(...(await run.export(index, mark)))
      } catch (error) {
        signal.throwIfAborted()
        await awaitSupersession(session, signal)
        if ((await failedReads(session)) > failedBefore)
          throw mountServerUnreachable(`database "${database}": ${serverMessage(error)}`, error)
        logger.warn({ err: error, session: session.session, database }, 'a database was not exported')
        run.fail(index, error)
      }
    }
    if (!run.states.some(({ status }) => status === 'done')) {
      await destination.discard()
      return { ...listedDatabases(run.states), ...exportNotes(notices) }
    }
    const manifest = await destination.finish(
      manifestText({
        session: session.session,
        export: { id, request },
        input,
        format: request.format ?? 'directory',
        databases: run.exported,
        startedAt,
        finishedAt: new Date().toISOString(),
      }),
    )
    await changes.exported(session, run.marks)
    return {
      ...listedDatabases(run.states),
      ...(manifest !== undefined && { manifest }),
      ...exportNotes(notices),
    }
  } finally {
    await destination.close()
  }
}

/** A database that could not be searched because the mount server is unreachable might be one to export. */
async function choose(
  session: PublishedSession,
  address: InstanceAddress,
  request: ExportRequest,
  changes: SessionChanges,
  { signal, progress }: RunExportOptions['context'],
  failedBefore: number,
): Promise<ChosenDatabases> {
  const isUnreachable = async (): Promise<boolean> => (await failedReads(session)) > failedBefore
  try {
    const chosen = await chooseDatabases(address, request, () => changes.of(session), {
      signal,
      progress: (detail) => progress({ detail }),
    })
    if (chosen.notes.length > 0 && (await isUnreachable()))
      throw mountServerUnreachable(chosen.notes.join('; '))
    return chosen
  } catch (error) {
    if (await isUnreachable()) throw mountServerUnreachable(serverMessage(error), error)
    throw error
  }
}

interface Run {
  /** One state for each database, in the order of `databases`. */
  readonly states: readonly DatabaseExport[]
  /** The databases that have ended, for the manifest. */
  readonly exported: readonly ExportedDatabase[]
  /** Where the changes of each database stood before its snapshot; none for exports of single tables. */
  readonly marks: ReadonlyMap<string, Mark>
  /** Reports that the database at `index` is being exported. @returns where its changes stand now */
  begin(index: number): Promise<Mark | undefined>
  /** Exports the database at `index`. @returns notes on what differs at the destination. @throws why it failed */
  export(index: number, mark: Mark | undefined): Promise<string[]>
  /** Records that the database at `index` failed. */
  fail(index: number, error: unknown): void
}

interface RunParts {
  readonly session: PublishedSession
  readonly address: InstanceAddress
  readonly request: ExportRequest
  readonly databases: readonly string[]
  readonly destination: Destination
  readonly programs: Programs
  readonly changes: SessionChanges
  readonly context: Pick<StepContext, 'signal' | 'progress'>
}

/** The state of a run; each change of it is reported. */
function createRun(parts: RunParts): Run {
  const { session, address, request, destination, programs, changes } = parts
  const { signal, progress } = parts.context
  const states: DatabaseExport[] = parts.databases.map((database) => ({ database, status: 'pending' }))
  const exported: ExportedDatabase[] = []
  const marks = new Map<string, Mark>()

  function report(index: number, change: Partial<DatabaseExport>): DatabaseExport {
    const database = parts.databases[index] ?? ''
    const state: DatabaseExport = { ...(states[index] ?? { database, status: 'running' }), ...change }
    states[index] = state
    progress({ ...listedDatabases(states), ...exportProgress(states) })
    return state
  }

  return {
    states,
    exported,
    marks,
    async begin(index) {
      const { database } = report(index, { status: 'running' })
      return request.tables ? undefined : changes.mark(session, database)
    },
    async export(index, mark) {
      const { database } = states[index] ?? { database: '' }
      const done = await exportDatabase({
        ...{ database, address, tables: request.tables, destination, programs, signal },
        report: (change) => report(index, change),
      })
      const { path, bytes, notes = [] } = done.written
      const { length: tables } = done.counts
      const rows = done.counts.reduce((sum, count) => sum + count.rows, 0)
      const status = report(index, {
        ...{ status: 'done', waiting: undefined, tables, tablesDone: tables, rows, bytes, path },
      })
      exported.push({ status, ...done })
      if (mark) marks.set(database, mark)
      return notes.map((note) => `database "${database}": ${note}`)
    },
    fail(index, error) {
      const { database } = states[index] ?? { database: '' }
      const status = report(index, {
        ...{ status: 'failed', waiting: undefined, error: databaseError(database, error) },
      })
      exported.push({ status })
    },
  }
}
