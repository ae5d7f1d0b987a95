/**
 * What an export did on its way, in a file of the session's write cache: by it the next agent process, or the undo,
 * finds what to take away, and a finished export is not done twice.
 */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { z } from 'zod'
import { ExportRequest, ExportResult } from '../../../messages/exports.ts'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'

const ExportRecord = z.object({
  id: z.string(),
  request: ExportRequest,
  /** The destination was found empty and is this export's; before that nothing at it is touched. */
  claimed: z
    .object({
      /** The directory was made by the export. */
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

/** A directory for what an export needs on the way: ours, and the session's user may pass through it. */
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
