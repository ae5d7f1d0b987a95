/**
 * Exports from a published instance: the request, its progress and its result.
 *
 * Types are inferred from the schemas. Messages name credentials and never contain them: they are in files on the target.
 */
import { z } from 'zod'
import { decides } from './open-schema.ts'
import { Bytes, ErrorSchema, Name, Port, Time } from './primitives.ts'

/** Names of databases, tables and schemas as in PostgreSQL's catalog, without quotes. */
export const SqlName = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[^\0]+$/)

/** `table`, `schema.table`, or a pattern as pg_dump takes it. */
export const TablePattern = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[^\0]+$/)

const AbsolutePath = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/)

export const Destination = decides(
  z
    .discriminatedUnion('type', [
      z.strictObject({
        type: z.literal('directory'),
        path: AbsolutePath.describe('a directory on the target server'),
      }),
      z.strictObject({
        type: z.literal('sftp'),
        host: z.string().min(1).max(255),
        port: Port.optional(),
        user: z.string().min(1).max(63).optional(),
        path: AbsolutePath,
        credential: Name.optional().describe('its name in the configuration of the target agent'),
      }),
      z.strictObject({
        type: z.literal('postgres'),
        host: z.string().min(1).max(255),
        port: Port.optional(),
        user: z.string().min(1).max(63).optional(),
        database: SqlName.optional().describe('default: the name of the exported database'),
        credential: Name.optional().describe('its name in the configuration of the target agent'),
      }),
    ])
    .describe('where an export goes'),
)

export const ExportRequest = z.strictObject({
  databases: z
    .array(SqlName)
    .max(10_000)
    .optional()
    .describe('default: those with a table of `tables`; without any, those that were changed'),
  tables: z.array(TablePattern).max(1000).optional().describe('default: all of a database'),
  format: decides(z.enum(['directory', 'custom', 'plain']))
    .optional()
    .describe('default: directory'),
  jobs: z.int().min(1).max(64).optional().describe('parallel jobs; default: the processors of the target'),
  rename: z
    .array(z.strictObject({ from: TablePattern, to: TablePattern }))
    .max(1000)
    .optional()
    .describe('into a live server: the names of databases or tables there'),
  destination: Destination,
})

export const DatabaseExport = z.object({
  database: z.string(),
  status: z.enum(['pending', 'running', 'done', 'failed', 'cancelled']),
  tables: z.int().min(0).optional(),
  tablesDone: z.int().min(0).optional(),
  rows: z.int().min(0).optional(),
  bytes: Bytes.optional().describe('written at the destination'),
  path: z.string().optional().describe('where it is at the destination'),
  waiting: z.string().optional().describe('what it waits for, such as a lock and its holder'),
  error: ErrorSchema.optional(),
})

/** All databases of an export in sum. Messages list only some of many: those that run or failed first. */
export const ExportTotals = z.object({
  databases: z.int().min(0),
  done: z.int().min(0),
  failed: z.int().min(0),
  tables: z.int().min(0),
  rows: z.int().min(0),
  bytes: Bytes,
})

const listed = {
  databases: z.array(DatabaseExport).describe('of many only some, those that run or failed first'),
  totals: ExportTotals.optional().describe('of all databases; missing: the export has not begun'),
}

/** Result of the step `export`. */
export const ExportResult = z.object({
  ...listed,
  manifest: z.string().optional().describe('where the manifest with row counts and hashes is'),
  notes: z.array(z.string()).optional().describe('what was omitted or differs at the destination, and why'),
})

/** An export as clients see it. */
export const ExportView = z.object({
  id: z.string().describe('of the session: e1, e2, …'),
  request: ExportRequest,
  status: z.enum(['pending', 'running', 'done', 'failed', 'cancelled']),
  requestedAt: Time,
  finishedAt: Time.optional(),
  detail: z.string().optional(),
  ...listed,
  manifest: z.string().optional(),
  notes: z.array(z.string()).optional().describe('what was omitted or differs at the destination, and why'),
  error: ErrorSchema.optional(),
})

export type Destination = z.infer<typeof Destination>
export type ExportRequest = z.infer<typeof ExportRequest>
export type ExportTotals = z.infer<typeof ExportTotals>
export type DatabaseExport = z.infer<typeof DatabaseExport>
export type ExportResult = z.infer<typeof ExportResult>
export type ExportView = z.infer<typeof ExportView>
