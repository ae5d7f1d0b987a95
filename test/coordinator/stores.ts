/** Runs a suite on both stores: SQLite in a file of the test's own, and PostgreSQL on the server of the test run. */
import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import pg from 'pg'
import { pino } from 'pino'
import { openPostgresStore } from '../../coordinator/store/postgres.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { postgresUrl } from '../support/postgres-server.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** Opens the test's store, which is empty at the beginning of each test; the caller closes it. */
export type OpenStore = () => Promise<Store>

/** The database of the test's store, past the store. */
export interface RawDatabase {
  readonly kind: 'sqlite' | 'postgres'
  /** Runs statements. */
  run(text: string): Promise<void>
}

export function onBothStores(suite: (open: OpenStore, raw: RawDatabase) => void): void {
  describe('on SQLite', () => {
    let directory: string
    const file = (): string => path.join(directory, 'deep', 'store.sqlite')

    beforeEach(async () => {
      directory = await scratchDirectory('howdah-store-')
    })

    afterEach(() => rm(directory, { recursive: true }))

    const run = async (text: string): Promise<void> => {
      mkdirSync(path.dirname(file()), { recursive: true })
      const db = new DatabaseSync(file())
      db.exec(text)
      db.close()
    }
    suite(() => openSqliteStore(file()), { kind: 'sqlite', run })
  })

  describe('on PostgreSQL', function () {
    this.timeout(60_000)
    const logger = pino({ level: 'silent' })
    let url: string

    const run = async (text: string): Promise<void> => {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      await client.query(text)
      await client.end()
    }

    beforeEach(async () => {
      url = await postgresUrl()
      await run('SET client_min_messages = warning; DROP SCHEMA IF EXISTS howdah CASCADE')
    })

    suite(() => openPostgresStore(url, logger), { kind: 'postgres', run })
  })
}
