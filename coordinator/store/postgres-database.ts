/** The connections of the PostgreSQL store. Errors of its functions are as the callers of the store are to see them. */
import pg from 'pg'
import type { Logger } from 'pino'
import { HowdahError } from '../../messages/errors.ts'
import { throwStoreFailure } from './postgres-failure.ts'
import { migrate } from './postgres-schema.ts'

export interface PostgresOptions {
  /** Milliseconds after which a statement without an answer counts as failed. Default 15 s. */
  readonly queryTimeoutMs?: number
  /** Milliseconds for a connection. Default 10 s. */
  readonly connectTimeoutMs?: number
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

/** @throws HowdahError `configuration` when the database cannot be reached or used, or belongs to a newer release */
export async function openDatabase(
  url: string,
  logger: Logger,
  { queryTimeoutMs = 15_000, connectTimeoutMs = 10_000 }: PostgresOptions,
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
  const storeId = await open(pool)

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

/** @returns the id of the store @throws HowdahError `configuration` */
async function open(pool: pg.Pool): Promise<string> {
  let client: pg.PoolClient | undefined
  try {
    client = await pool.connect()
    const id = await migrate(client)
    client.release()
    return id
  } catch (error) {
    client?.release(true)
    await pool.end()
    if (error instanceof HowdahError) throw error
    throw new HowdahError('configuration', `store.url: ${(error as Error).message}`, { cause: error })
  }
}
