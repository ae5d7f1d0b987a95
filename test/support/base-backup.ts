/**
 * Takes a base backup over a replication connection, as pg_basebackup in tar format does: pg_basebackup itself refuses
 * servers that are newer than it. Writes `base.tar`, an archive for each tablespace, and `backup_manifest`.
 *
 * Protocol: PostgreSQL documentation, "Streaming Replication Protocol", BASE_BACKUP, of version 15 and later.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'

export interface BaseBackupSource {
  readonly socketDirectory: string
  readonly port: number
  readonly user: string
}

/** @param directory exists; the archives contain the WAL that the backup needs to be consistent */
export async function takeBaseBackup(source: BaseBackupSource, directory: string): Promise<void> {
  const { socketDirectory: host, port, user } = source
  // The types of pg do not know the parameter `replication` of the startup packet.
  const client = new pg.Client({ host, port, user, replication: 'true' } as pg.ClientConfig)
  await client.connect()
  try {
    await new Promise<void>((resolve, reject) => {
      client.query(backupQuery(directory, (error) => (error === undefined ? resolve() : reject(error))))
    })
  } finally {
    await client.end()
  }
}

const COMMAND = `BASE_BACKUP (LABEL 'test', CHECKPOINT 'fast', WAL true, TABLESPACE_MAP true, MANIFEST 'yes', WAIT false)`

/** The first byte of a message of the copy stream. */
const NEW_ARCHIVE = 'n'
const MANIFEST = 'm'
const DATA = 'd'

/** A query by the interface that pg has for queries of others: it calls these methods with the server's messages. */
function backupQuery(directory: string, end: (error?: Error) => void): pg.Submittable {
  let file: number | undefined
  let failed: Error | undefined

  function open(name: string): void {
    close()
    file = openSync(join(directory, name), 'wx')
  }

  function close(): void {
    if (file !== undefined) closeSync(file)
    file = undefined
  }

  const ignore = (): void => undefined
  const handlers = {
    submit: (connection: pg.Connection) => connection.query(COMMAND),
    handleRowDescription: ignore,
    handleDataRow: ignore,
    handleCommandComplete: ignore,
    handleEmptyQuery: ignore,
    handlePortalSuspended: ignore,
    handleCopyInResponse: ignore,
    handleCopyData({ chunk }: { readonly chunk: Buffer }) {
      const kind = String.fromCharCode(chunk[0] ?? 0)
      if (kind === NEW_ARCHIVE) open(chunk.toString('utf8', 1, chunk.indexOf(0, 1)))
      else if (kind === MANIFEST) open('backup_manifest')
      else if (kind === DATA && file !== undefined) writeSync(file, chunk, 1)
    },
    handleError(error: Error) {
      failed = error
    },
    handleReadyForQuery() {
      close()
      end(failed)
    },
  }
  return handlers
}
