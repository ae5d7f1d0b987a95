import { expect } from 'chai'
import { databaseText, exportFields } from '../../coordinator/cli/export-lines.ts'
import { psqlLine } from '../../coordinator/cli/session-lines.ts'
import { applyEvent } from '../../coordinator/cli/session-progress.ts'
import type { EventDelivery } from '../../messages/bus.ts'
import { sessionView } from './fake-bus.ts'

const VIEW = sessionView({ warnings: ['known'] })
const connection = { host: '/run/x', port: 54320, socketDirectory: '/run/x', user: 'Shop Admin' }

describe('the psql line', () => {
  it('names the superuser and a database that accepts connections', () => {
    expect(psqlLine({ ...VIEW, connection })).to.equal("psql -h /run/x -p 54320 -U 'Shop Admin' -d postgres")
    expect(psqlLine({ ...VIEW, connection: { ...connection, database: 'shop' } })).to.match(/ -d shop$/)
  })

  it('sets the role of a superuser that cannot log in itself', () => {
    const line = psqlLine({ ...VIEW, connection: { ...connection, role: 'the dba' } })
    expect(line).to.match(/^PGOPTIONS='-c role=the\\ dba' psql -h /)
  })

  it('quotes a database name that libpq would parse as a connection string', () => {
    const line = psqlLine({ ...VIEW, connection: { ...connection, database: "a=b'c" } })
    expect(line?.endsWith(`-d 'dbname='\\''a=b\\'\\''c'\\'''`), line).to.equal(true)
  })
})

describe('the lines of an export', () => {
  it('show what it waits for, and what was omitted', () => {
    const waiting = 'a lock on t, which is held by the process 7'
    const one = { database: 'shop', status: 'running', tables: 2, tablesDone: 1, waiting } as const
    expect(databaseText(one)).to.equal(`1 of 2 tables, waits for ${waiting}`)
    const fields = exportFields({
      ...{ id: 'e1', status: 'done', requestedAt: VIEW.createdAt, databases: [] },
      request: { destination: { type: 'directory', path: '/srv' } },
      notes: ['the database "old" was left out: it is invalid'],
    })
    expect(fields).to.deep.include(['note', 'the database "old" was left out: it is invalid'])
  })
})

describe('a session as a client follows it', () => {
  it('shows each finding in its databases as a warning, once', () => {
    const body = { session: 's', warnings: ['known', 'Foreign servers lead elsewhere: …'] }
    const delivery = { type: 'session.findings', body } as EventDelivery
    expect(applyEvent(VIEW, delivery, new Date()).warnings).to.deep.equal(body.warnings)
  })
})
