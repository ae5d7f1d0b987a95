/** Chains of incremental backups as pg_basebackup takes them, each compared with what pg_combinebackup makes of it. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, parse } from 'node:path'
import { expect } from 'chai'
import { conforms } from '../repository/conformance.ts'
import { type Chains, type Form, INSTANCE, type Label, makeChains, PLAIN, walOf } from './chain.ts'
import { EVERY_CHANGE } from './every-change.ts'

const FORMS: Readonly<Record<string, Form>> = {
  plain: PLAIN,
  tar: ['-Ft', '-X', 'fetch'],
  'tar-gz': ['-Ft', '--compress=client-gzip:1'],
  'tar-zst': ['-Ft', '--compress=server-zstd:1'],
  'tar-lz4': ['-Ft', '--compress=server-lz4'],
}
const COMBINED: readonly (readonly [form: string, label: Label])[] = [
  ['plain', 'monday'],
  ['plain', 'tuesday'],
  ['tar', 'tuesday'],
  ['tar-gz', 'tuesday'],
  ['tar-zst', 'monday'],
  ['tar-lz4', 'tuesday'],
]

describe('a chain of incremental backups', function () {
  this.timeout(180_000)
  let made: Chains

  before(async () => {
    made = await makeChains(FORMS, EVERY_CHANGE)
  })
  after(() => made?.remove())

  for (const [form, label] of COMBINED) {
    conforms(`${form}, ${label}`, async () => {
      const chain = made.chains.get(form)
      if (chain === undefined) throw new Error(`there is no chain ${form}`)
      const combined = await made.combine(chain, label)
      const hasOwnWal = form === 'plain' || form === 'tar'
      return {
        ...{ format: 'basebackup', repository: chain.repository, instance: INSTANCE, label },
        ...combined,
        ...(await walOf(combined)),
        // Its manifest is of the result; archives have WAL, or a map of tablespaces, beside the data.
        ignored: ['data/backup_manifest', 'data/tablespace_map', ...(hasOwnWal ? [] : ['data/pg_wal/'])],
        keepsTimes: false,
      }
    })
  }

  it('has files that grew, shrank, changed within and did not change, since the full backup and since the one before', async () => {
    const home = join(made.chains.get('plain')?.repository ?? '', INSTANCE)
    const found = new Set<string>()
    for (const path of await readdir(join(home, 'tuesday/base'), { recursive: true })) {
      const { dir, base } = parse(path)
      if (!base.startsWith('INCREMENTAL.')) continue
      const own = await readFile(join(home, 'tuesday/base', path))
      const full = await stat(join(home, 'full/base', dir, base.slice('INCREMENTAL.'.length))).catch(
        () => undefined,
      )
      const since = full === undefined ? 'of a file of monday' : `of a file of ${size(own, full.size)} blocks`
      found.add(`${own.readUInt32LE(4) === 0 ? 'no blocks' : 'blocks'} ${since}`)
    }
    expect([...found]).to.include.members([
      'no blocks of a file of as many blocks',
      'no blocks of a file of fewer blocks',
      'blocks of a file of as many blocks',
      'blocks of a file of fewer blocks',
      'blocks of a file of more blocks',
    ])
  })
})

/** How many blocks the full file has, compared with the one that the incremental file stands for. */
function size(incremental: Buffer, fullBytes: number): string {
  const [count, truncation] = [incremental.readUInt32LE(4), incremental.readUInt32LE(8)]
  const last = count === 0 ? -1 : incremental.readUInt32LE(12 + (count - 1) * 4)
  const difference = fullBytes / 8192 - Math.max(truncation, last + 1)
  return difference === 0 ? 'as many' : difference < 0 ? 'fewer' : 'more'
}
