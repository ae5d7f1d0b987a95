/** Runs a suite on both stores: SQLite in a file of the test's own, and PostgreSQL on the server of the test run. */
import { rm } from 'node:fs/promises'
import path from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { openPostgresStore } from '../../coordinator/store/postgres.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { postgresUrl } from '../support/postgres-server.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** Opens the test's store, which is empty at the beginning of each test; the caller closes it. */
export type OpenStore = () => Promise<Store>

export function onBothStores(suite: (open: OpenStore) => void): void {
  describe('on SQLite', () => {
    let directory: string

    beforeEach(async () => {
      directory = await scratchDirectory('howdah-store-')
    })

    afterEach(() => rm(directory, { recursive: true }))

    suite(() => openSqliteStore(path.join(directory, 'deep', 'store.sqlite')))
  })

  describe('on PostgreSQL', function () {
    this.timeout(60_000)
    const logger = pino({ level: 'silent' })
    let url: string

    beforeEach(async () => {
      url = await postgresUrl()
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      await client.query('SET client_min_messages = warning; DROP SCHEMA IF EXISTS howdah CASCADE')
      await client.end()
    })

    suite(() => openPostgresStore(url, logger))
  })
}
