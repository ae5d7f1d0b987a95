/**
 * Exporting from a published instance: what is asked for, and what is told of it.
 *
 * Schemas first, types from them. Credentials are named here and never carried: they lie in files on the target.
 */
import { z } from 'zod'
import { Bytes, ErrorSchema, Name, Port, Time } from './primitives.ts'

/** Names of databases, tables and schemas as PostgreSQL has them; never quoted here. */
export const SqlName = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[^\0]+$/)

/** `table`, `schema.table`, or pg_dump's pattern of one. */
export const TablePattern = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[^\0]+$/)

const AbsolutePath = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/)

export const Destination = z
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
      credential: Name.optional().describe('by name, from the configuration of the target agent'),
    }),
    z.strictObject({
      type: z.literal('postgres'),
      host: z.string().min(1).max(255),
      port: Port.optional(),
      user: z.string().min(1).max(63).optional(),
      database: SqlName.optional().describe('default: the name that the exported database has'),
      credential: Name.optional().describe('by name, from the configuration of the target agent'),
    }),
  ])
  .describe('where an export goes')

export const ExportRequest = z.strictObject({
  databases: z
    .array(SqlName)
    .max(1000)
    .optional()
    .describe('default: those with a table of `tables`; without any, those that were changed'),
  tables: z.array(TablePattern).max(1000).optional().describe('default: all of a database'),
  format: z.enum(['directory', 'custom', 'plain']).optional().describe('default: directory'),
  jobs: z.int().min(1).max(64).optional().describe('parallel jobs; default: the processors of the target'),
  rename: z
    .array(z.strictObject({ from: TablePattern, to: TablePattern }))
    .max(1000)
    .optional()
    .describe('into a live server: what databases or tables are called there'),
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
  waiting: z.string().optional().describe('what it waits for, such as a lock and who holds it'),
  error: ErrorSchema.optional(),
})

/** What the step `export` gives. */
export const ExportResult = z.object({
  databases: z.array(DatabaseExport),
  manifest: z.string().optional().describe('where the manifest with row counts and hashes is'),
  notes: z.array(z.string()).optional().describe('what was left out, or is different there, and why'),
})

/** An export as clients see it. */
export const ExportView = z.object({
  id: z.string().describe('of the session: e1, e2, …'),
  request: ExportRequest,
  status: z.enum(['pending', 'running', 'done', 'failed', 'cancelled']),
  requestedAt: Time,
  finishedAt: Time.optional(),
  detail: z.string().optional(),
  databases: z.array(DatabaseExport),
  manifest: z.string().optional(),
  notes: z.array(z.string()).optional().describe('what was left out, or is different there, and why'),
  error: ErrorSchema.optional(),
})

export type Destination = z.infer<typeof Destination>
export type ExportRequest = z.infer<typeof ExportRequest>
export type DatabaseExport = z.infer<typeof DatabaseExport>
export type ExportResult = z.infer<typeof ExportResult>
export type ExportView = z.infer<typeof ExportView>
