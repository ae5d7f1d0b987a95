/** Exports one database of a published instance, with one snapshot for the dump and the row counts. */

import { HowdahError } from '../../../../messages/errors.ts'
import type { DatabaseExport } from '../../../../messages/exports.ts'
import { serverMessage } from '../../postgres/connections/client.ts'
import { type InstanceAddress, withAnyDatabase } from '../../postgres/connections/instance-client.ts'
import { findDatabase, listDatabases, someNames } from '../../postgres/connections/instance-databases.ts'
import type { Destination } from '../destinations/destination.ts'
import { instancePrograms } from '../source/instance-programs.ts'
import { watchLocks } from '../source/lock-wait.ts'
import { openSnapshot } from '../source/snapshot.ts'
import { followDump } from './dump-progress.ts'
import type { ExportedDatabase } from './manifest.ts'
import type { Programs } from './programs.ts'

/** How long an export waits for the lock of a table. Milliseconds. */
const LOCK_WAIT_MS = 600_000

export interface ExportDatabaseOptions {
  readonly database: string
  readonly address: InstanceAddress
  readonly tables: readonly string[] | undefined
  readonly destination: Destination
  readonly programs: Programs
  readonly signal: AbortSignal
  readonly report: (progress: Partial<DatabaseExport>) => void
  readonly lockWaitMs?: number
}

/** @throws the cause of a failure; nothing of the database is left at the destination then */
export async function exportDatabase(
  options: ExportDatabaseOptions,
): Promise<Required<Omit<ExportedDatabase, 'status'>>> {
  const { database, address, tables, destination, programs, signal, report } = options
  const { lockWaitMs = LOCK_WAIT_MS } = options
  await requireDatabase(address, database)
  const snapshot = await openSnapshot(address, database, tables, signal, lockWaitMs)
  const locks = watchLocks(address, database, () => report({ waiting: locks.waiting }))
  try {
    const progress = followDump(snapshot, () => report(progress.state()))
    report(progress.state())
    const patterns = [...(tables ?? []), ...snapshot.partitionPatterns].flatMap((pattern) => ['-t', pattern])
    const { dump } = instancePrograms(programs, address)
    const written = await destination.write({
      database,
      snapshot,
      start: (args) =>
        dump(
          database,
          snapshot.encoding,
          [
            ...['--verbose', `--lock-wait-timeout=${lockWaitMs}`, `--snapshot=${snapshot.id}`],
            ...[...args, ...patterns],
          ],
          progress.onLine,
        ),
      progress: (bytes) => report({ bytes }),
      tableStarted: progress.tableStarted,
    })
    const counts = await progress.finish()
    return { at: snapshot.at, counts, written }
  } catch (error) {
    const { waiting } = locks
    if (waiting === undefined || signal.aborted) throw error
    throw new HowdahError(
      'export_failed',
      `it waited for ${waiting}, and was given up after ${Math.round(lockWaitMs / 1000)} s: ${serverMessage(error)}`,
      { cause: error },
    )
  } finally {
    await Promise.all([locks.close(), snapshot.close()])
  }
}

/** @throws HowdahError `export_failed` when the database does not exist or accepts no connections */
async function requireDatabase(address: InstanceAddress, database: string): Promise<void> {
  await withAnyDatabase(address, async (client) => {
    const found = await findDatabase(client, database)
    if (found?.closed !== undefined)
      throw new HowdahError('export_failed', found.closed, { field: 'databases' })
    if (found) return
    const names = someNames((await listDatabases(client)).map(({ name }) => name))
    throw new HowdahError('export_failed', `there is no database of that name; there are ${names}`, {
      field: 'databases',
    })
  })
}
