/** A relation of more than one segment, in a chain of incremental backups between which its last segment shrinks and empties. */
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { openForTest } from '../repository/fixture.ts'
import type { Cluster } from '../support/postgres-cluster.ts'
import { type Chains, DATABASE, INSTANCE, LABELS, type Label, makeChains, PLAIN } from './chain.ts'

const SEGMENT_BLOCKS = 131_072
const PIECE_BYTES = 4 * 1024 ** 2

/** How many blocks the relation has at each backup. VACUUM gives back no fewer than 1000. */
const BLOCKS: Readonly<Record<Label, number>> = {
  full: SEGMENT_BLOCKS + 1600,
  monday: SEGMENT_BLOCKS + 8,
  tuesday: SEGMENT_BLOCKS - 1200,
}

/** Rows are numbered as the blocks are; the blocks behind are given back. */
async function cut(cluster: Cluster, label: Label): Promise<void> {
  await cluster.sql(
    `UPDATE wide SET t = reverse(t) WHERE i % 10000 = 1; DELETE FROM wide WHERE i > ${BLOCKS[label]}`,
    DATABASE,
  )
  await cluster.sql('VACUUM wide', DATABASE)
}

describe('a relation of two segments', function () {
  this.timeout(300_000)
  let made: Chains
  let path: string

  before(async () => {
    made = await makeChains(
      { plain: PLAIN },
      {
        settings: { shared_buffers: '256MB' },
        async fill(cluster) {
          // So little room is used of a block that each has one row, and has room for its update.
          await cluster.sql(
            `CREATE TABLE wide (i int, t text) WITH (fillfactor = 10);
             INSERT INTO wide SELECT i, repeat(lpad(i::text, 6, '0'), 120) FROM generate_series(1, ${BLOCKS.full}) i`,
            DATABASE,
          )
        },
        changes: [(cluster) => cut(cluster, 'monday'), (cluster) => cut(cluster, 'tuesday')],
        select: `SELECT pg_relation_size('wide') / 8192`,
      },
    )
    path = await made.cluster.sql(`SELECT pg_relation_filepath('wide')`, DATABASE)
  })
  after(() => made?.remove())

  it('is read in each backup as pg_combinebackup combines it', async () => {
    expect(made.rows).to.deep.equal(
      Object.fromEntries(Object.entries(BLOCKS).map(([label, blocks]) => [label, String(blocks)])),
    )
    const chain = made.chains.get('plain')
    if (chain === undefined) throw new Error('there is no chain')
    const { repository, spool } = openForTest(
      { format: 'basebackup', path: chain.repository },
      join(made.directory, 'spool'),
    )
    const buffer = Buffer.alloc(PIECE_BYTES)
    for (const label of LABELS.slice(1)) {
      const combined = await made.combine(chain, label)
      const backup = await (await repository.instance(INSTANCE)).open(label)
      for (const name of [path, `${path}.1`, `${path}_vm`]) {
        const file = join(combined.data, name)
        const { size } = statSync(file)
        const entry = backup.entry(`data/${name}`)
        expect(entry?.size, `${name} of ${label}`).to.equal(size)
        const fd = openSync(file, 'r')
        for (let offset = 0; offset < size; offset += PIECE_BYTES) {
          const expected = buffer.subarray(0, readSync(fd, buffer, 0, PIECE_BYTES, offset))
          const found = await backup.read(entry?.file ?? -1, offset, PIECE_BYTES)
          expect(found.equals(expected), `${name} of ${label} at ${offset}`).to.equal(true)
        }
        closeSync(fd)
      }
      await backup.close()
    }
    await spool.close()
  })
})
