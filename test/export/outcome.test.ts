import { expect } from 'chai'
import {
  databaseError,
  exportNotes,
  exportProgress,
  mountServerUnreachable,
} from '../../agents/target/export/outcome.ts'
import { HowdahError } from '../../messages/errors.ts'

describe('What an export reports', () => {
  it('names the database that is being exported, its tables and what it waits for', () => {
    const states = [
      { database: 'crm', status: 'done' as const, bytes: 10 },
      {
        ...{ database: 'shop', status: 'running' as const, tables: 7, tablesDone: 2, bytes: 5 },
        waiting: 'a lock on orders',
      },
      { database: 'web', status: 'pending' as const },
    ]
    expect(exportProgress(states)).to.deep.equal({
      detail: 'database shop (2 of 3), 2 of 7 tables, waits for a lock on orders',
      bytesDone: 15,
    })
    expect(exportProgress(states.slice(0, 1)).detail).to.equal('1 of 1 databases')
  })

  it('gives the error of a database its name, and a code that says that the export failed', () => {
    expect(databaseError('crm', new Error('broken'))).to.deep.equal({
      code: 'export_failed',
      message: 'database "crm": broken',
    })
    const missing = new HowdahError('space_low', 'no room', { field: 'destination.path' })
    expect(databaseError('crm', missing)).to.include({ code: 'space_low', field: 'destination.path' })
  })

  it('fits into one message, however many databases fail and however much they say', () => {
    expect(databaseError('crm', new Error('x'.repeat(10_000))).message.length).to.be.at.most(2_000)
    const { notes = [] } = exportNotes(Array.from({ length: 60 }, () => 'n'.repeat(1_000)))
    expect(notes).to.have.length(51)
    expect(notes.at(-1)).to.equal('and 10 more')
    expect(Math.max(...notes.map(({ length }) => length))).to.equal(500)
    expect(exportNotes([])).to.deep.equal({})
  })

  it('can be retried when the mount server is unreachable', () => {
    expect(mountServerUnreachable('database "crm"').retryable).to.equal(true)
  })
})
