/**
 * A running PostgreSQL server as destination: pg_dump is piped into pg_restore, without a dump file.
 *
 * Nothing is visible there before it is complete. Into an existing database everything is restored in one transaction; a new
 * database is created under a temporary name, and renamed at the end.
 */
import type { CredentialConfig } from '../../../../config/formats.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Destination as DestinationRequest, ExportRequest } from '../../../../messages/exports.ts'
import type { InstanceAddress } from '../../postgres/connections/instance-client.ts'
import type { SystemUser } from '../../postgres/specification.ts'
import { copyRenamed, dropScratchDatabase } from '../dump/copy-renamed.ts'
import type { Programs } from '../dump/programs.ts'
import { destinationDatabaseName, tableRenames } from '../dump/renames.ts'
import type { DatabaseDump, Destination } from './destination.ts'
import { type LiveConnection, liveConnection, MAINTENANCE_DATABASE } from './live-connection.ts'
import {
  databaseExists,
  dropLiveDatabase,
  ownershipFlags,
  requireNoConflict,
  restoreAsNew,
  restoreDump,
} from './live-database.ts'
import type { Claim } from './local-directory.ts'

export interface LiveServerOptions {
  readonly export: ExportRequest
  readonly request: Extract<DestinationRequest, { type: 'postgres' }>
  readonly credential: CredentialConfig
  readonly user: SystemUser
  readonly address: () => Promise<InstanceAddress>
  /** Does work that writes to the published instance and must not count as a change. */
  readonly excludeFromChanges: <T>(work: () => Promise<T>) => Promise<T>
  readonly programs: Programs
  readonly label: string
  readonly workDirectory: string
  readonly claim: Claim
}

export function liveServer(options: LiveServerOptions): Destination {
  const { export: request, label, claim, programs } = options
  /** Name of a database until it is complete. The databases of one export are written one after another. */
  const temporary = `howdah_${label}`
  let connection: Promise<LiveConnection> | undefined

  const connect = (): Promise<LiveConnection> => {
    connection ??= liveConnection(options)
    return connection
  }

  const dropScratch = (address: InstanceAddress): Promise<void> =>
    options.excludeFromChanges(() => dropScratchDatabase(address, label))

  return {
    async open() {
      const { databases } = claim
      if (
        request.destination.type === 'postgres' &&
        request.destination.database !== undefined &&
        databases.length > 1
      )
        throw new HowdahError(
          'export_failed',
          `${databases.length} databases cannot all go into the database "${request.destination.database}"; export them one by one`,
          { field: 'destination.database' },
        )
      const live = await connect()
      await live.sql(MAINTENANCE_DATABASE, 'SELECT 1')
      await claim.save({ made: false, names: [] })
    },

    async write(dump) {
      const live = await connect()
      const database = destinationDatabaseName(dump.database, request)
      const path = `${live.where}/${database}`
      let bytes = 0
      const counted: DatabaseDump = {
        ...dump,
        progress: (now) => {
          bytes = now
          dump.progress(now)
        },
      }
      const renames = tableRenames(dump.database, request, dump.snapshot.tables)
      if (!(await databaseExists(live, database))) {
        await restoreAsNew(live, counted, { temporary, database, renames })
        return { path, bytes }
      }
      await requireNoConflict(live, database, dump.snapshot.tables, renames)
      if (renames.length === 0) {
        await restoreDump(live, counted, database)
        return { path, bytes }
      }
      if (!request.tables)
        throw new HowdahError(
          'export_failed',
          `the database "${database}" exists on ${live.where}; tables are renamed there only when the export names its tables, or goes into a new database`,
          { field: 'rename' },
        )
      const owners = await ownershipFlags(live, dump)
      const address = await options.address()
      const notes = await options.excludeFromChanges(() =>
        copyRenamed({ live, database, dump: counted, renames, owners, address, programs, label }),
      )
      return { path, bytes, notes }
    },

    async finish() {
      return undefined
    },

    async discard() {
      if (!claim.claimed()) return []
      // If the instance does not answer, it is being removed, and its scratch database with it.
      if (request.tables && request.rename)
        await options
          .address()
          .then(dropScratch)
          .catch(() => undefined)
      const live = await connect()
      if (!(await databaseExists(live, temporary))) return []
      await dropLiveDatabase(live, temporary)
      return [`removed the database ${temporary} from ${live.where}`]
    },

    async close() {},
  }
}
