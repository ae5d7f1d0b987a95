/**
 * The step `export` of a published session. What it left is found by its record in the write cache, so that an agent
 * that was killed in the middle begins again cleanly, and an undo takes everything away.
 */
import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { DatabaseExport, ExportRequest, ExportResult } from '../../../messages/exports.ts'
import type { StepCommand } from '../../../messages/steps.ts'
import type { StepContext, StepHandler } from '../../runtime/step-runner.ts'
import type { Mark } from '../changes/detection.ts'
import type { SessionChanges } from '../changes/session-changes.ts'
import { findMountProcess } from '../mount-process/agent/mount-process.ts'
import { serverMessage } from '../postgres/connections/client.ts'
import {
  currentAddress,
  type InstanceAddress,
  instanceAddress,
} from '../postgres/connections/instance-client.ts'
import { findInstance } from '../postgres/instance.ts'
import { type PublishedSession, publishedSession, readSession } from '../session/published-session.ts'
import type { Credentials } from './destinations/credentials.ts'
import type { Destination } from './destinations/destination.ts'
import { makeDestination } from './destinations/make-destination.ts'
import { exportDatabase } from './dump/export-database.ts'
import { type ExportedDatabase, manifestText } from './dump/manifest.ts'
import { createPrograms, type Programs } from './dump/programs.ts'
import {
  type ExportRecord,
  makeWorkDirectory,
  readExportRecord,
  removeExportRecord,
  workDirectory,
  writeExportRecord,
} from './record.ts'
import { type ChosenDatabases, chooseDatabases } from './source/choose-databases.ts'

export interface ExportStepOptions {
  readonly credentials: Credentials
  readonly changes: SessionChanges
  readonly reserveBytes: number
  readonly cachePathOf: (session: string) => string
  readonly logger: Logger
}

/** How long the clean-up of an export may take before it is given up. Milliseconds. */
const CLEAN_UP_MS = 30_000
/** How long the coordinator may take to hear that the instance is gone, and to call the step back. Milliseconds. */
const SUPERSESSION_MS = 30_000

export function exportStep(options: ExportStepOptions): StepHandler<'export'> {
  const { changes, cachePathOf, logger } = options

  function destinationOf(
    session: PublishedSession,
    record: ExportRecord,
    databases: readonly string[],
    tools: { readonly programs: Programs; readonly signal: AbortSignal },
  ): Destination {
    const { cachePath } = session
    const claim = {
      databases,
      claimed: () => record.claimed,
      save: async (claimed: { made: boolean; names: string[] }) => {
        record.claimed = claimed
        await writeExportRecord(cachePath, record)
      },
    }
    const { id, request } = record
    const excludeFromChanges = <T>(work: () => Promise<T>): Promise<T> =>
      changes.excludeFromChanges(session, work)
    const jobs = request.jobs ?? availableParallelism()
    return makeDestination({ ...options, ...tools, session, id, request, jobs, claim, excludeFromChanges })
  }

  /** Takes away what a record says was left. Its own deadline: whatever called it may have been aborted. */
  async function discard(session: PublishedSession, record: ExportRecord): Promise<string[]> {
    if (!record.claimed) return []
    const signal = AbortSignal.timeout(CLEAN_UP_MS)
    const programs = createPrograms({ session, signal })
    const destination = destinationOf(session, record, [], { programs, signal })
    try {
      return await destination.discard()
    } finally {
      await destination.close()
    }
  }

  async function begin(session: PublishedSession, { id, request }: ExportRecord): Promise<void> {
    const programs = createPrograms({ session, signal: AbortSignal.timeout(CLEAN_UP_MS) })
    await programs.killStale()
    const stale = await readExportRecord(session.cachePath)
    // That of another export belongs to somebody who has his dump.
    if (stale?.id === id) await discard(session, stale)
    await makeWorkDirectory(session.cachePath)
    await writeExportRecord(session.cachePath, { id, request })
  }

  /** A database that could not be looked into as the mount server is away may be the very one. */
  async function choose(
    session: PublishedSession,
    address: InstanceAddress,
    request: ExportRequest,
    unread: number,
  ): Promise<ChosenDatabases> {
    const isAway = async (): Promise<boolean> => (await failedReads(session)) > unread
    try {
      const chosen = await chooseDatabases(address, request, () => changes.of(session))
      if (chosen.notes.length > 0 && (await isAway())) throw mountServerUnreachable(chosen.notes.join('; '))
      return chosen
    } catch (error) {
      if (await isAway()) throw mountServerUnreachable(serverMessage(error), error)
      throw error
    }
  }

  async function exportAll(
    session: PublishedSession,
    record: ExportRecord,
    command: StepCommand,
    { signal, progress }: StepContext,
  ): Promise<ExportResult> {
    const startedAt = new Date().toISOString()
    const address = await currentAddress(await instanceAddress(session))
    const { request, id } = record
    const unread = await failedReads(session)
    const { databases, notes } = await choose(session, address, request, unread)
    const notices = [...notes]
    const programs = createPrograms({ session, signal })
    const destination = destinationOf(session, record, databases, { programs, signal })
    const states: DatabaseExport[] = databases.map((database) => ({ database, status: 'pending' }))
    const tell = (): void => progress({ databases: states, ...totals(states) })
    const done: ExportedDatabase[] = []
    const marks = new Map<string, Mark>()
    try {
      await destination.open()
      for (const [index, database] of databases.entries()) {
        const report = (news: Partial<DatabaseExport>): void => {
          states[index] = { ...(states[index] ?? { database, status: 'running' }), ...news }
          tell()
        }
        report({ status: 'running' })
        const mark = request.tables ? undefined : await changes.mark(session, database)
        try {
          const exported = await exportDatabase({
            ...{ database, address, tables: request.tables, destination, programs, signal, report },
          })
          const { path, bytes, notes: more = [] } = exported.written
          notices.push(...more.map((note) => `database "${database}": ${note}`))
          const { length: tables } = exported.counts
          const rows = exported.counts.reduce((sum, count) => sum + count.rows, 0)
          report({ status: 'done', waiting: undefined, tables, tablesDone: tables, rows, bytes, path })
          done.push({ status: states[index] as DatabaseExport, ...exported })
          if (mark) marks.set(database, mark)
        } catch (error) {
          signal.throwIfAborted()
          await awaitSupersession(session, signal)
          if ((await failedReads(session)) > unread)
            throw mountServerUnreachable(`database "${database}": ${serverMessage(error)}`, error)
          logger.warn({ err: error, session: session.session, database }, 'a database was not exported')
          report({ status: 'failed', waiting: undefined, error: namedError(database, error) })
          done.push({ status: states[index] as DatabaseExport })
        }
      }
      if (!states.some(({ status }) => status === 'done')) {
        await destination.discard()
        return { databases: states, ...noticesOf(notices) }
      }
      const finishedAt = new Date().toISOString()
      const format = request.format ?? 'directory'
      const about = { session: session.session, export: { id, request }, input: command.input }
      const manifest = await destination.finish(
        manifestText({ ...about, format, databases: done, startedAt, finishedAt }),
      )
      for (const [database, mark] of marks) await changes.exported(session, database, mark)
      return { databases: states, ...(manifest !== undefined && { manifest }), ...noticesOf(notices) }
    } finally {
      await destination.close()
    }
  }

  return {
    async run(command, context) {
      const session = await publishedSession(command)
      const job = command.input.export
      if (!job) throw new HowdahError('internal', `session ${session.session}: the step names no export`)
      const earlier = await readExportRecord(session.cachePath)
      if (earlier?.id === job.id && earlier.result) return earlier.result
      const record: ExportRecord = { id: job.id, request: job.request }
      // Taken up again after a reboot, it comes before the coordinator knows that the instance is gone.
      await awaitSupersession(session, context.signal)
      await begin(session, record)
      try {
        const result = await exportAll(session, record, command, context)
        await writeExportRecord(session.cachePath, { ...record, result })
        return result
      } catch (error) {
        await discard(session, record).catch((err: unknown) =>
          logger.warn({ err, session: session.session }, 'an export that failed left something behind'),
        )
        await awaitSupersession(session, context.signal)
        throw error
      } finally {
        await rm(workDirectory(session.cachePath), { recursive: true, force: true })
      }
    },

    async undo({ session: id, input }) {
      const cachePath = cachePathOf(id)
      const session = await readSession(cachePath)
      if (!session) return { undone: [] }
      const programs = createPrograms({ session, signal: AbortSignal.timeout(CLEAN_UP_MS) })
      await programs.killStale()
      const record = await readExportRecord(cachePath)
      // One that was finished belongs to whoever asked for it, unless it is the very one that is taken back.
      const takenBack = record && (!record.result || record.id === input.export?.id)
      const undone = takenBack
        ? await discard(session, record).catch((error: unknown) => left(record, error))
        : []
      if (takenBack) await removeExportRecord(cachePath)
      await rm(workDirectory(cachePath), { recursive: true, force: true })
      return { undone }
    },
  }
}

/** A destination that is away must not keep a session from being unpublished; that something is left there is said. */
function left({ id }: ExportRecord, error: unknown): string[] {
  return [`stopped the export ${id}, but its destination could not be cleaned: ${errorBody(error).message}`]
}

/**
 * A dump that failed because the instance is gone has not failed: the coordinator brings the instance back, and has the
 * export done again. Rejects when the step is called back.
 */
async function awaitSupersession(session: PublishedSession, signal: AbortSignal): Promise<void> {
  if (await findInstance(session)) return
  await delay(SUPERSESSION_MS, undefined, { signal }).catch(() => signal.throwIfAborted())
}

/** Reads of the backup that failed so far because the mount server was away. */
async function failedReads({ cachePath }: PublishedSession): Promise<number> {
  const mount = await findMountProcess(cachePath)
  const status = await mount?.status().catch(() => undefined)
  return status?.failedReadsEver ?? 0
}

/** What the absence of the mount server broke is done again when it is back; nobody gets half of a dump. */
function mountServerUnreachable(what: string, cause?: unknown): HowdahError {
  const message = `What the export needs of the backup could not be read, as the mount server is away: ${what}`
  return new HowdahError('repository_unavailable', message.slice(0, MAX_ERROR), { cause })
}

function namedError(database: string, error: unknown): NonNullable<DatabaseExport['error']> {
  const { code, field } = errorBody(error)
  return {
    code: code === 'internal' || code === 'operation_failed' ? 'export_failed' : code,
    message: `database "${database}": ${serverMessage(error)}`.slice(0, MAX_ERROR),
    ...(field !== undefined && { field }),
  }
}

/** A thousand databases that fail must still fit into one message. */
const MAX_ERROR = 2_000
const MAX_NOTES = 50

function noticesOf(notes: readonly string[]): Pick<ExportResult, 'notes'> {
  if (notes.length === 0) return {}
  const more = notes.length > MAX_NOTES ? [`and ${notes.length - MAX_NOTES} more`] : []
  return { notes: [...notes.slice(0, MAX_NOTES).map((note) => note.slice(0, MAX_ERROR / 4)), ...more] }
}

function totals(states: readonly DatabaseExport[]): { detail: string; bytesDone: number } {
  const running = states.find(({ status }) => status === 'running')
  const ended = states.filter(({ status }) => status === 'done' || status === 'failed').length
  const tables =
    running?.tables === undefined ? '' : `, ${running.tablesDone ?? 0} of ${running.tables} tables`
  const waiting = running?.waiting === undefined ? '' : `, waits for ${running.waiting}`
  return {
    detail: running
      ? `database ${running.database} (${ended + 1} of ${states.length})${tables}${waiting}`
      : `${ended} of ${states.length} databases`,
    bytesDone: states.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0),
  }
}
