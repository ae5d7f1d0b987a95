/** Runs the code of a mount once while a spare program waits, so that it is compiled when a session is mounted. */

import { openJournal } from '../../filesystem/durability/journal.ts'
import { buildBaseTree, parseBaseTree } from '../../filesystem/tree/base-tree.ts'
import { type PublishOptions, publishedTree } from '../../filesystem/tree/published-tree.ts'

const ENTRIES = 3000
const BATCH = 300

/** Builds the tree and the journal of an invented backup. */
export async function warmUp(): Promise<void> {
  const tree = await buildBaseTree(publishedTree(entries(), OPTIONS))
  parseBaseTree(tree.serialize(), 'warm-up').fingerprint()
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
