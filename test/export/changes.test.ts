import { expect } from 'chai'
import {
  detectChanges,
  initialRecord,
  type Observation,
  withExport,
} from '../../agents/target/changes/detection.ts'
import type { ChangeRecord } from '../../agents/target/changes/record.ts'

const START = initialRecord({ xid: 100n, epoch: 'first' })

function seen(
  xid: bigint,
  databases: Record<string, [written: number, statistics: number]> = {},
  more: Partial<Observation> = {},
): Observation {
  const all = { shop: [0, 0], crm: [0, 0], ...databases } as Record<string, [number, number]>
  return {
    xid,
    epoch: 'first',
    databases: new Map(
      Object.entries(all).map(([name, [written, statistics]]) => [name, { written, statistics }]),
    ),
    shared: 0,
    quiet: true,
    ...more,
  }
}

const changes = (record: ChangeRecord, observation: Observation) => detectChanges(record, observation).changes

describe('The detection of changes', () => {
  it('finds none if no transaction wrote', () => {
    expect(changes(START, seen(100n))).to.deep.equal({ changed: false, databases: [] })
  })

  it('reports the databases whose counters grew, also later', () => {
    const first = detectChanges(START, seen(101n, { crm: [3, 0] }))
    expect(first.changes).to.deep.equal({ changed: true, databases: ['crm'] })
    expect(changes(first.record, seen(101n, {}, { epoch: 'second' })).databases).to.deep.equal(['crm'])
  })

  it('counts an unexplained transaction as a change, in whatever database', () => {
    expect(changes(START, seen(101n))).to.deep.equal({ changed: true, databases: [] })
  })

  it('does not count ANALYZE as a change once no client can have written', () => {
    const busy = detectChanges(START, seen(103n, { shop: [7, 7] }, { quiet: false }))
    expect(busy.changes.changed).to.equal(true)
    const quiet = detectChanges(busy.record, seen(103n, { shop: [7, 7] }))
    expect(quiet.changes).to.deep.equal({ changed: false, databases: [] })
    expect(changes(quiet.record, seen(104n, { shop: [8, 7] })).databases).to.deep.equal(['shop'])
  })

  it('counts all databases if a crash lost the statistics of writes', () => {
    expect(changes(START, seen(105n, {}, { epoch: 'second' })).databases).to.deep.equal(['crm', 'shop'])
    const looked = detectChanges(START, seen(105n, { crm: [1, 0] })).record
    expect(changes(looked, seen(105n, {}, { epoch: 'second' })).databases).to.deep.equal(['crm'])
  })

  it('finds none after all changes are exported, and later ones again', () => {
    const { record } = detectChanges(START, seen(105n, { crm: [4, 0] }))
    const mark = { xid: 105n, epoch: 'first', counters: { written: 4, statistics: 0 } }
    const exported = withExport(record, 'crm', mark, true)
    expect(changes(exported, seen(105n, { crm: [4, 0] }))).to.deep.equal({ changed: false, databases: [] })
    expect(changes(exported, seen(106n, { crm: [5, 0] })).databases).to.deep.equal(['crm'])
    expect(changes(exported, seen(106n, { crm: [4, 0] })).changed).to.equal(true)
  })

  it('keeps reporting a database after another was exported', () => {
    const { record } = detectChanges(START, seen(105n, { crm: [4, 0], shop: [1, 0] }))
    const mark = { xid: 105n, epoch: 'first', counters: { written: 4, statistics: 0 } }
    expect(
      changes(withExport(record, 'crm', mark, true), seen(105n, { crm: [4, 0], shop: [1, 0] })),
    ).to.deep.equal({
      changed: true,
      databases: ['shop'],
    })
  })
})
