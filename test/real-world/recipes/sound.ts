/** Nothing is wrong here, for each kind of repository: what fails in these is the corpus itself. */
import { expect } from 'chai'
import type { Scenario } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

async function holdsWhatWasArchived(bench: Workbench): Promise<void> {
  const session = await bench.publish()
  expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
  await bench.rows(session, 'INSERT INTO t VALUES (1002)')
}

export const sound: readonly Scenario[] = [
  {
    name: 'warnings of a publish are in the session, in its history and in the events for clients',
    source: 'https://www.postgresql.org/docs/15/continuous-archiving.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      const events: string[] = []
      const watching = await bench.fleet.bus.watchEvents('session.*.warning', ({ type, body }) => {
        if (type === 'session.warning' && body.about === 'publish') events.push(body.message)
      })
      const { id, warnings } = await bench.publish()
      expect(warnings).to.not.deep.equal([])
      const { history = [] } = await bench.untilWarned(id, /./)
      const noted = history.filter(({ type }) => type === 'warning').map(({ text }) => text)
      expect(noted).to.have.members(warnings)
      await bench.untilTrue(() => events.length >= warnings.length, 'each warning is an event')
      expect(events).to.have.members(warnings)
      await watching.close()
    },
  },
  {
    name: 'a plain cluster with a pg_basebackup and its archive holds the last row that was archived',
    source: 'https://www.postgresql.org/docs/15/continuous-archiving.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      await holdsWhatWasArchived(bench)
    },
  },
  {
    name: 'a plain cluster with pgBackRest holds the last row that was archived',
    source: 'https://pgbackrest.org/user-guide.html',
    share: 'soak',
    repository: 'pgbackrest',
    async run(bench) {
      const production = await bench.cluster()
      const tool = await bench.pgbackrest(production)
      await tool.backup()
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      await holdsWhatWasArchived(bench)
    },
  },
  {
    name: 'a plain cluster with Barman holds the last row that was archived',
    source: 'https://docs.pgbarman.org/',
    share: 'soak',
    repository: 'barman',
    async run(bench) {
      const production = await bench.cluster()
      const tool = await bench.barman(production)
      await tool.backup()
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      await tool.archiveWal()
      await holdsWhatWasArchived(bench)
    },
  },
]
