/** The conformance suite with backups as newer versions of pgBackRest make them: in bundles, incremental by block. */
import { rm } from 'node:fs/promises'
import { conforms } from '../repository/conformance.ts'
import { temporaryDirectory } from '../repository/fixture.ts'
import { restored } from '../repository/restored.ts'
import type { BackupType, ProductionRepository, RepositoryKind } from '../support/pgbackrest.ts'
import { makeProduction, type Production } from '../support/production.ts'

const KINDS: Readonly<Record<string, RepositoryKind>> = {
  zst: { compress: 'zst', bundle: true, block: true },
  'lz4, encrypted': { compress: 'lz4', bundle: true, block: true, passphrase: 'kept/in=its configuration' },
  gz: { compress: 'gz', bundle: true, block: true },
}

describe('pgBackRest, incremental by block,', function () {
  this.timeout(180_000)
  let production: Production
  let scratch: string

  before(async () => {
    production = await makeProduction({ compress: 'none', bundle: false })
    scratch = await temporaryDirectory()
  })
  after(async () => {
    await production?.remove()
    await rm(scratch, { recursive: true, force: true })
  })

  async function change(type: BackupType): Promise<void> {
    await production.sql(
      `UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 5000 = 7;
       INSERT INTO archived_orders SELECT max(id) + i, 'again' FROM archived_orders, generate_series(1, 100) i GROUP BY i;
       DELETE FROM pgbench_tellers WHERE tid > 5;
       DROP TABLE IF EXISTS before_${type}; CREATE TABLE before_${type} AS SELECT generate_series(1, 1000) AS i`,
    )
    await production.writeNotes(2000, type)
  }

  for (const [title, kind] of Object.entries(KINDS)) {
    describe(title, () => {
      let repository: ProductionRepository

      before(async () => {
        repository = await production.addRepository(title.replaceAll(/\W/g, '-'), kind)
        await repository.backup('full')
      })

      for (const type of ['diff', 'incr'] as const) {
        conforms(type, async () => {
          await change(type)
          const label = await repository.backup(type)
          const { configFile, path, stanza } = repository
          const wal = [await production.switchWal()]
          const pgPath = production.dataDirectory
          return restored(scratch, { repository: path, stanza, label, configFile, wal, pgPath })
        })
      }
    })
  }
})
