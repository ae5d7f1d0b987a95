/** The connections of the PostgreSQL store. Errors of its functions are as the callers of the store are to see them. */
import pg from 'pg'
import type { Logger } from 'pino'
import { backoffMs } from '../../messages/backoff.ts'
import { HowdahError } from '../../messages/errors.ts'
import { createOutageLog } from '../../messages/outage-log.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { pause } from '../../messages/wait.ts'
import { isRefusedForGood, throwStoreFailure } from './postgres-failure.ts'
import { migrate } from './postgres-schema.ts'

export interface PostgresOptions {
  /** Milliseconds after which a statement without an answer counts as failed. Default 15 s. */
  readonly queryTimeoutMs?: number
  /** Milliseconds for a connection. Default 10 s. */
  readonly connectTimeoutMs?: number
  /** Milliseconds for a server that cannot be reached or is starting up, to be used for the first time. Default 0: one attempt. */
  readonly waitMs?: number
}

export interface PostgresDatabase {
  readonly storeId: string
  readonly pool: pg.Pool
  query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<pg.QueryResult<Row>>
  /** Commits what `work` did if `commits` says so of its outcome, else undoes it. */
  transaction<T>(work: (client: pg.ClientBase) => Promise<T>, commits: (outcome: T) => boolean): Promise<T>
  /** The column `document` of the rows that a statement returns. */
  documents<T>(text: string, values: unknown[]): Promise<T[]>
  /** The column `id`. */
  ids(text: string, values: unknown[]): Promise<string[]>
}

const RETRY = { firstMs: 200, maxMs: 5_000 }

/**
 * @throws HowdahError `configuration` as soon as the server refuses user, password or database, or the database belongs to a
 * newer release; `Unavailable` when it could not be used within `waitMs`
 */
export async function openDatabase(
  url: string,
  logger: Logger,
  { queryTimeoutMs = 15_000, connectTimeoutMs = 10_000, waitMs = 0 }: PostgresOptions,
): Promise<PostgresDatabase> {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'howdah coordinator',
    max: 5,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
  })
  pool.on('error', (error) => logger.warn({ err: error }, 'an idle connection of the store broke'))
  const storeId = await open(pool, waitMs, logger).catch(async (error: unknown) => {
    await pool.end()
    throw error
  })

  const query = <Row extends pg.QueryResultRow>(text: string, values: unknown[]) =>
    pool.query<Row>(text, values).catch(throwStoreFailure)

  return {
    storeId,
    pool,
    query,
    async transaction(work, commits) {
      const client = await pool.connect().catch(throwStoreFailure)
      try {
        await client.query('BEGIN')
        const outcome = await work(client)
        await client.query(commits(outcome) ? 'COMMIT' : 'ROLLBACK')
        client.release()
        return outcome
      } catch (error) {
        client.release(true)
        return throwStoreFailure(error)
      }
    },
    documents: async <T>(text: string, values: unknown[]) =>
      (await query<{ document: T }>(text, values)).rows.map(({ document }) => document),
    ids: async (text, values) => (await query<{ id: string }>(text, values)).rows.map((row) => row.id),
  }
}

/** @returns the id of the store @throws as `openDatabase` */
async function open(pool: pg.Pool, waitMs: number, logger: Logger): Promise<string> {
  const outage = createOutageLog({
    logger,
    failing: 'the store cannot be used yet',
    again: 'the store can be used',
  })
  const deadline = Date.now() + waitMs
  for (let attempt = 1; ; attempt++) {
    try {
      const id = await openOnce(pool)
      outage.works()
      return id
    } catch (error) {
      if (error instanceof HowdahError) throw error
      // A host name with several addresses: Node's error of all of them has a code and no message.
      const { message, code } = error as NodeJS.ErrnoException
      const reason = message || code
      if (isRefusedForGood(error))
        throw new HowdahError('configuration', `store.url: ${reason}`, { cause: error })
      const waited = waitMs > 0 ? ` within ${waitMs / 1000} s` : ''
      const failure = new Unavailable(`store.url: the store could not be used${waited}: ${reason}`, {
        cause: error,
      })
      const delay = backoffMs(attempt, RETRY)
      if (Date.now() + delay > deadline) throw failure
      outage.failed(failure)
      await pause(delay)
    }
  }
}

async function openOnce(pool: pg.Pool): Promise<string> {
  let client: pg.PoolClient | undefined
  try {
    client = await pool.connect()
    const id = await migrate(client)
    client.release()
    return id
  } catch (error) {
    client?.release(true)
    throw error
  }
}
