/** The conformance suite with incremental backups that Barman takes by pg_basebackup, and combines when it restores. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { conforms } from '../repository/conformance.ts'
import { type Barman, makeBarman } from '../support/barman.ts'
import { makeProduction, type Production } from '../support/production.ts'

const IGNORED = [
  ...['.barman-recover.info', 'backup_manifest', 'barman_wal/', 'recovery.signal'],
  ...['tablespace_map', 'postgresql.auto.conf.origin', 'pg_wal/'],
  // Their modes: Barman makes them anew.
  ...['pg_wal', 'pg_tblspc'],
]

describe('Barman, incremental by PostgreSQL,', function () {
  this.timeout(180_000)
  let production: Production
  let barman: Barman
  let parent: string

  before(async () => {
    production = await makeProduction({ settings: { summarize_wal: 'on' } })
    barman = await makeBarman(production)
    parent = await barman.backup('streamed')
  })
  after(() => production?.remove())

  const changes: Readonly<Record<string, string>> = {
    'of a full backup': `UPDATE pgbench_accounts SET abalance = 1 WHERE aid % 5000 = 7; DELETE FROM archived_orders WHERE id > 10`,
    'of an incremental one': `TRUNCATE pgbench_history; CREATE TABLE later AS SELECT generate_series(1, 1000) AS i`,
  }
  for (const [title, sql] of Object.entries(changes)) {
    conforms(title, async () => {
      await production.sql(sql)
      await production.sql('VACUUM archived_orders')
      const label = await barman.backup('streamed', 'none', parent)
      parent = label
      const oid = (await production.sql(`SELECT oid FROM pg_tablespace WHERE spcname = 'archive'`)).trim()
      const home = join(production.directory, `recovered-${label}`)
      const [data, tablespaces] = [join(home, 'data'), join(home, 'tablespaces')]
      await barman.recover('streamed', label, data, join(tablespaces, oid))
      const names = await readdir(join(barman.home, 'streamed/wals/0000000100000000'))
      const wal = names.filter((name) => /^[0-9A-F]{24}$/.test(name)).slice(0, 2)
      const contents = new Map<string, Buffer>()
      // Now: Barman writes to its home when it is asked.
      for (const name of wal) contents.set(name, await barman.getWal('streamed', name))
      return {
        ...{ format: 'barman', repository: barman.home, instance: 'streamed', label, data, tablespaces, wal },
        ignored: IGNORED.concat(`backup_manifest.${label}`).map((name) => `data/${name}`),
        getWal: async (name) => contents.get(name) ?? Buffer.alloc(0),
        keepsTimes: false,
      }
    })
  }
})
