/**
 * The agent's record of a server that it started: `conf/postgres.json` of the session, in a directory that the server's
 * user cannot write to, since the agent sends signals to the process that it names.
 */
import { readFile, rm } from 'node:fs/promises'
import { z } from 'zod'
import { RecoverResult } from '../../../../messages/steps.ts'
import { RecoverTo } from '../../../../messages/values.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import { writeFileAtomically } from './atomic-file.ts'

const InstanceRecord = z.object({
  pid: z.int().min(1),
  /** In clock ticks since boot; distinguishes the process from a later one with the same id. */
  startTime: z.string(),
  /** Bytes of the log that earlier starts wrote. */
  logOffset: z.int().min(0),
  /** Names of its shared memory in /dev/shm. */
  segments: z.array(z.string().regex(/^PostgreSQL\.\d+$/)),
  warnings: z.array(z.string()),
  /** The values with which it was started of settings for which recovery has minimums. */
  limits: z
    .object({
      max_connections: z.number().optional(),
      max_worker_processes: z.number().optional(),
      max_wal_senders: z.number().optional(),
      max_prepared_transactions: z.number().optional(),
      max_locks_per_transaction: z.number().optional(),
    })
    .optional(),
  /** The target that it was started with. */
  recoverTo: RecoverTo.optional(),
  result: RecoverResult.optional(),
})

export type InstanceRecord = z.infer<typeof InstanceRecord>

/** The record; undefined if there is none or it cannot be parsed. */
export async function readRecord(spec: InstanceSpec): Promise<InstanceRecord | undefined> {
  try {
    return InstanceRecord.parse(JSON.parse(await readFile(instancePaths(spec).record, 'utf8')))
  } catch (error) {
    const known = error instanceof SyntaxError || error instanceof z.ZodError
    if (known || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

export async function writeRecord(spec: InstanceSpec, record: InstanceRecord): Promise<void> {
  await writeFileAtomically(instancePaths(spec).record, JSON.stringify(record), 0o600, 'process')
}

export async function removeRecord(spec: InstanceSpec): Promise<void> {
  await rm(instancePaths(spec).record, { force: true })
}
