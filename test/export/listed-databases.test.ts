import { expect } from 'chai'
import { listedChanges } from '../../agents/target/changes/detection.ts'
import { listedDatabases } from '../../agents/target/export/listed-databases.ts'
import { EVENTS } from '../../messages/definitions.ts'
import { type DatabaseExport, ExportResult } from '../../messages/exports.ts'

const name = (index: number): string => `tenant_${String(index).padStart(5, '0')}`

function states(count: number): DatabaseExport[] {
  return Array.from({ length: count }, (_, index) => ({
    database: name(index),
    status: 'done',
    tables: 3,
    rows: 10,
    bytes: 1000,
    path: `/srv/rescue/${name(index)}`,
  }))
}

describe('the databases of an export in a message', () => {
  it('are all listed when they are few', () => {
    const few = states(20)
    expect(listedDatabases(few).databases).to.deep.equal(few)
  })

  it('are some of 5,000, in their order, and all in sum', () => {
    const { databases, totals } = listedDatabases(states(5000))
    const result = ExportResult.parse({ databases, totals })
    expect(JSON.stringify(result).length).to.be.lessThan(20_000)
    expect(databases.map(({ database }) => database)).to.deep.equal(databases.map((_, index) => name(index)))
    expect(totals).to.deep.equal({
      databases: 5000,
      done: 5000,
      failed: 0,
      tables: 15_000,
      rows: 50_000,
      bytes: 5_000_000,
    })
  })

  it('are first those that run or failed', () => {
    const all = states(5000).with(4998, { database: name(4998), status: 'running' })
    const error = { code: 'export_failed' as const, message: 'x'.repeat(2000), retryable: false }
    for (const index of [17, 4999]) all[index] = { database: name(index), status: 'failed', error }
    const { databases, totals } = listedDatabases(all)
    expect(databases.filter(({ status }) => status !== 'done').map(({ database }) => database)).to.deep.equal(
      [17, 4998, 4999].map(name),
    )
    expect(totals).to.include({ done: 4997, failed: 2 })
  })

  it('fit although every one of 5,000 failed', () => {
    const error = { code: 'export_failed' as const, message: 'x'.repeat(2000), retryable: false }
    const { databases } = listedDatabases(states(5000).map((one) => ({ ...one, status: 'failed', error })))
    expect(databases.length).to.be.greaterThan(0)
    expect(JSON.stringify(databases).length).to.be.lessThan(20_000)
  })
})

describe('the changed databases in a message', () => {
  it('are some of 5,000, and how many more', () => {
    const databases = Array.from({ length: 5000 }, (_, index) => name(index))
    const changes = listedChanges({ changed: true, databases })
    expect(changes).to.deep.include({ changed: true, more: 4900 })
    expect(EVENTS['session.changes'].body.safeParse({ session: 's', changes }).success).to.equal(true)
    expect(JSON.stringify(changes).length).to.be.lessThan(10_000)
  })

  it('are all listed when they are few', () => {
    expect(listedChanges({ changed: true, databases: ['shop'] })).to.deep.equal({
      changed: true,
      databases: ['shop'],
    })
  })
})
