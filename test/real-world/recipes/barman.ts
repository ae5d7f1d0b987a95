/** Barman with its directories elsewhere, by its own configuration and by links. */
import { rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { INSTANCE } from '../backups.ts'
import { expectError } from '../expectations.ts'
import { repositoryPath, type Scenario } from '../scenario.ts'

export const barmanElsewhere: readonly Scenario[] = [
  {
    name: 'a Barman server whose WAL is a link to another disk is read, or the link is named',
    source: 'https://github.com/EnterpriseDB/barman/issues/524',
    share: 'soak',
    repository: 'barman',
    async run(bench) {
      const production = await bench.cluster()
      const tool = await bench.barman(production)
      await tool.backup()
      await tool.archiveWal()
      await bench.seal()
      const elsewhere = join(await bench.place('elsewhere'), 'wals')
      const wals = join(repositoryPath(bench.directory), INSTANCE, 'wals')
      await rename(wals, elsewhere)
      await symlink(elsewhere, wals)
      await bench.seal({ again: true })
      const error = await bench.failingPublish()
      expect(error.code).not.to.equal('backup_damaged')
      expectError(error, error.code, /elsewhere/)
    },
  },
]
