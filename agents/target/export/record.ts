/**
 * The record of an export, in a file of the session's write cache: from it the next agent process, or the undo, knows what
 * to remove, and that a finished export is not repeated.
 */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { z } from 'zod'
import { ExportRequest, ExportResult } from '../../../messages/exports.ts'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'

const ExportRecord = z.object({
  id: z.string(),
  request: ExportRequest,
  /** The destination was found empty and is claimed by this export; before that nothing there is modified. */
  claimed: z
    .object({
      /** The export created the directory. */
      made: z.boolean(),
      /** What it may put there. */
      names: z.array(z.string()),
    })
    .optional(),
  result: ExportResult.optional(),
})

export type ExportRecord = z.infer<typeof ExportRecord>

export async function readExportRecord(cachePath: string): Promise<ExportRecord | undefined> {
  const text = await readFile(recordPath(cachePath), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  return text === undefined ? undefined : ExportRecord.parse(JSON.parse(text))
}

export async function writeExportRecord(cachePath: string, record: ExportRecord): Promise<void> {
  await writeFileAtomically(recordPath(cachePath), JSON.stringify(record), 0o600)
}

export async function removeExportRecord(cachePath: string): Promise<void> {
  await rm(recordPath(cachePath), { force: true })
}

/** A directory for temporary files of an export: the agent's own, traversable for the session's user. */
export function workDirectory(cachePath: string): string {
  return `${cachePath}/export`
}

export async function makeWorkDirectory(cachePath: string): Promise<string> {
  const directory = workDirectory(cachePath)
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { mode: 0o711 })
  return directory
}

function recordPath(cachePath: string): string {
  return `${cachePath}/conf/export.json`
}
