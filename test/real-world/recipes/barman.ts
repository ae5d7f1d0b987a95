/** Barman with its directories elsewhere, by its own configuration and by links. */
import { rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { INSTANCE } from '../backups.ts'
import { expectError } from '../expectations.ts'
import { repositoryPath, type Scenario } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

/** A server with a backup and a row after it; one of its directories lies elsewhere, with a link to it. */
async function withLink(bench: Workbench, part: 'wals' | 'base'): Promise<void> {
  const production = await bench.cluster()
  const tool = await bench.barman(production)
  await tool.backup()
  await production.sql('INSERT INTO t VALUES (1001)')
  await production.switchWal()
  await tool.archiveWal()
  await bench.seal()
  const elsewhere = join(await bench.place('elsewhere'), part)
  const inside = join(repositoryPath(bench.directory), INSTANCE, part)
  await rename(inside, elsewhere)
  await symlink(elsewhere, inside)
  await bench.seal({ again: true })
}

async function holdsTheLastRow(bench: Workbench): Promise<void> {
  const session = await bench.publish()
  expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
}

export const barmanElsewhere: readonly Scenario[] = [
  {
    name: "a Barman server whose directories lie elsewhere is published by Barman's own configuration",
    source: 'https://github.com/EnterpriseDB/barman/issues/524',
    share: 'ci',
    repository: (directory) => ({ format: 'barman', configFile: join(directory, 'barman/barman.conf') }),
    async run(bench) {
      const production = await bench.cluster()
      const [base, wals] = [await bench.place('big-disk'), await bench.place('wal-disk')]
      const tool = await bench.barman(
        production,
        `basebackups_directory = ${base}\nwals_directory = ${wals}/of-main\n`,
      )
      await tool.backup()
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      await tool.archiveWal()
      await holdsTheLastRow(bench)
    },
  },
  {
    name: 'a Barman server whose WAL is a link to another disk is refused by the name of the link and of the key',
    source: 'https://github.com/EnterpriseDB/barman/issues/524',
    share: 'soak',
    repository: 'barman',
    async run(bench) {
      await withLink(bench, 'wals')
      const error = await bench.failingPublish()
      expect(error.code).not.to.equal('backup_damaged')
      expectError(error, error.code, /elsewhere/, /linkTargets/)
    },
  },
  ...(['wals', 'base'] as const).map(
    (part): Scenario => ({
      name: `a Barman server whose ${part} is a link is published when that place is allowed`,
      source: 'https://github.com/EnterpriseDB/repmgr/issues/312',
      share: 'soak',
      repository: (directory) => ({
        format: 'barman',
        path: repositoryPath(directory),
        linkTargets: [join(directory, 'elsewhere')],
      }),
      async run(bench) {
        await withLink(bench, part)
        await holdsTheLastRow(bench)
      },
    }),
  ),
]
