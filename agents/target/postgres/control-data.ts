/**
 * Reads pg_control of a data directory with PostgreSQL's own pg_controldata: its layout is another one in each major
 * version.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'
import { type InstanceSpec, instancePaths } from './specification.ts'
import { identity } from './user-process.ts'

const run = promisify(execFile)

/** Settings of production at the time of the backup, below which recovery may not run. */
export interface RecoveryMinimums {
  readonly max_connections?: number
  readonly max_worker_processes?: number
  readonly max_wal_senders?: number
  readonly max_prepared_transactions?: number
  readonly max_locks_per_transaction?: number
}

export interface ControlData extends RecoveryMinimums {
  readonly walSegmentBytes?: number
}

/** Labels of pg_controldata's output (src/bin/pg_controldata/pg_controldata.c); the program prints short names. */
const LABELS: Record<string, keyof ControlData> = {
  'max_connections setting': 'max_connections',
  'max_worker_processes setting': 'max_worker_processes',
  'max_wal_senders setting': 'max_wal_senders',
  'max_prepared_xacts setting': 'max_prepared_transactions',
  'max_locks_per_xact setting': 'max_locks_per_transaction',
  'Bytes per WAL segment': 'walSegmentBytes',
}

export function parseControlData(output: string): ControlData {
  const data: Partial<Record<keyof ControlData, number>> = {}
  for (const line of output.split('\n')) {
    const colon = line.indexOf(':')
    const name = LABELS[line.slice(0, colon)]
    const value = Number(line.slice(colon + 1))
    if (name !== undefined && Number.isSafeInteger(value)) data[name] = value
  }
  return data
}

/** @throws HowdahError `backup_damaged` when pg_control cannot be read; `timeout` when the mount does not answer in 30 s */
export async function readControlData(spec: InstanceSpec): Promise<ControlData> {
  try {
    const { stdout } = await run(`${spec.binaries}/pg_controldata`, [instancePaths(spec).data], {
      ...identity(spec.user),
      env: { LC_ALL: 'C' },
      timeout: 30_000,
      killSignal: 'SIGKILL',
    })
    return parseControlData(stdout)
  } catch (error) {
    const failure = error as { killed?: boolean; stderr?: string; message: string }
    if (failure.killed === true)
      throw new HowdahError('timeout', `pg_controldata got no answer from ${spec.mountPoint} within 30 s.`, {
        cause: error,
      })
    throw new HowdahError(
      'backup_damaged',
      `pg_control of the backup cannot be read: ${(failure.stderr ?? '').trim() || failure.message}`,
      { cause: error },
    )
  }
}
