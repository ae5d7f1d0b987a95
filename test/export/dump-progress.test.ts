import { expect } from 'chai'
import { followDump } from '../../agents/target/export/dump/dump-progress.ts'
import type { DatabaseSnapshot, Table } from '../../agents/target/export/source/snapshot.ts'

describe('The output of pg_dump', () => {
  const table = (name: string): Table => ({ oid: 1, schema: 'public', name })
  const tables = ['a', 'b', 'Old "Bills'].map(table)
  const follow = () =>
    followDump(
      { tables, count: async ({ name }: Table) => name.length } as unknown as DatabaseSnapshot,
      () => undefined,
    )

  it('shows every table, also if lines of its processes are interleaved', async () => {
    const progress = follow()
    for (const line of [
      'pg_dump:pg_dump: dumping contents of table "public.a"',
      ' dumping contents of table "public.Old "Bills"',
      'pg_dump: pg_dump: finished item 3385 TABLE DATA a',
      'dumping contents of table "public.b"',
      'pg_dump: finished item 3386 TABLE DATA Old "Bills',
    ])
      progress.onLine(line)
    expect(progress.state()).to.include({ tables: 3, tablesDone: 2 })
    const counts = await progress.finish()
    expect(counts.map(({ name, rows }) => [name, rows])).to.have.deep.members([
      ['a', 1],
      ['b', 1],
      ['Old "Bills', 10],
    ])
  })
})
