/** What a waiting program does once for nothing, because the machine code that comes of it makes the real time short. */

import { openJournal } from '../../filesystem/durability/journal.ts'
import { buildBaseTree, parseBaseTree } from '../../filesystem/tree/base-tree.ts'
import { type PublishOptions, publishedTree } from '../../filesystem/tree/published-tree.ts'

const ENTRIES = 3000
const BATCH = 300

/** Opens a backup that does not exist. */
export async function warmUp(): Promise<void> {
  const tree = await buildBaseTree(publishedTree(entries(), OPTIONS))
  parseBaseTree(tree.serialize(), 'rehearsal').fingerprint()
  tree.transfer()
  const journal = openJournal(':memory:')
  journal.load()
  journal.close()
}

const OPTIONS: PublishOptions = { mountPoint: '/', walDirectory: '/pg_wal', extraFiles: [], now: 0 }

async function* entries() {
  const common = { mode: 0o700, mtime: 0, size: 0 }
  yield [
    { ...common, path: 'data', kind: 'directory' as const },
    { ...common, path: 'data/base', kind: 'directory' as const },
  ]
  for (let file = 0; file < ENTRIES; file += BATCH) {
    yield Array.from({ length: BATCH }, (_, index) => ({
      ...common,
      path: `data/base/${file + index}`,
      kind: 'file' as const,
      size: 8192,
      file: file + index,
    }))
  }
}
