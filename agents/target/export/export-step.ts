/**
 * The step `export` of a published session. Owns the record of the export in the write cache (record.ts), by which a new
 * agent process repeats an interrupted export from the start, and an undo removes everything that it wrote. Never touches
 * the mount or the instance's files: it reads the instance through SQL and pg_dump only.
 *
 * A request passes from here to run-export.ts, which chooses the databases (source/), dumps each in one snapshot (dump/)
 * and writes to the destination (destinations/).
 */
import { rm } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { AllowConfig } from '../../../config/schema.ts'
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { StepHandler } from '../../runtime/step-runner.ts'
import { destinationRefusal } from '../allow/allowed.ts'
import { type PublishedSession, publishedSession, readSession } from '../session/published-session.ts'
import { createPrograms } from './dump/programs.ts'
import { awaitSupersession } from './interruption.ts'
import {
  type ExportRecord,
  makeWorkDirectory,
  readExportRecord,
  removeExportRecord,
  workDirectory,
  writeExportRecord,
} from './record.ts'
import { CLEAN_UP_MS, discardRecorded, type RecordedDestinationOptions } from './recorded-destination.ts'
import { runExport } from './run-export.ts'

export interface ExportStepOptions extends RecordedDestinationOptions {
  readonly cachePathOf: (session: string) => string
  /** Where exports may go. */
  readonly allow: AllowConfig
  readonly logger: Logger
}

export function exportStep(options: ExportStepOptions): StepHandler<'export'> {
  const { cachePathOf, logger } = options

  /** Removes what an interrupted attempt at the same export left, and begins a new record. */
  async function begin(session: PublishedSession, { id, request }: ExportRecord): Promise<void> {
    const programs = createPrograms({ session, signal: AbortSignal.timeout(CLEAN_UP_MS) })
    await programs.killStale()
    const stale = await readExportRecord(session.cachePath)
    // The files of another, finished export belong to the user who asked for it.
    if (stale?.id === id) await discardRecorded(options, session, stale)
    await makeWorkDirectory(session.cachePath)
    await writeExportRecord(session.cachePath, { id, request })
  }

  return {
    async run(command, context) {
      const session = await publishedSession(command)
      const { input } = command
      const job = input.export
      if (!job) throw new HowdahError('internal', `session ${session.session}: the step names no export`)
      const earlier = await readExportRecord(session.cachePath)
      if (earlier?.id === job.id && earlier.result) return earlier.result
      const refusal = await destinationRefusal(job.request.destination, options.allow)
      if (refusal) throw refusal
      const record: ExportRecord = { id: job.id, request: job.request }
      // A step resumed after a reboot runs before the coordinator knows that the instance is gone.
      await awaitSupersession(session, context.signal)
      await begin(session, record)
      try {
        const result = await runExport({ ...options, session, record, input, context })
        await writeExportRecord(session.cachePath, { ...record, result })
        return result
      } catch (error) {
        await discardRecorded(options, session, record).catch((err: unknown) =>
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
      const session = readSession(cachePath)
      if (!session) return { undone: [] }
      const programs = createPrograms({ session, signal: AbortSignal.timeout(CLEAN_UP_MS) })
      await programs.killStale()
      const record = await readExportRecord(cachePath)
      // A finished export belongs to the user who asked for it, unless it is the one being undone.
      const isUndone = record && (!record.result || record.id === input.export?.id)
      const undone = isUndone
        ? await discardRecorded(options, session, record).catch((error: unknown) =>
            cleanupFailure(record, error),
          )
        : []
      if (isUndone) await removeExportRecord(cachePath)
      await rm(workDirectory(cachePath), { recursive: true, force: true })
      return { undone }
    },
  }
}

/** An unreachable destination must not keep a session from being unpublished; the reply says what is left there. */
function cleanupFailure({ id }: ExportRecord, error: unknown): string[] {
  return [`stopped the export ${id}, but its destination could not be cleaned: ${errorBody(error).message}`]
}
