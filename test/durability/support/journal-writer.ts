/** Commits to the journal of a write cache in a loop, and reports each commit on standard output. */
import { writeSync } from 'node:fs'
import { openJournal } from '../../../agents/target/filesystem/durability/journal.ts'

const journal = openJournal(process.argv[2] ?? '')
const first = journal.load().entries.length
for (let number = first + 1; ; number++) {
  // A commit of several rows, so that a part of one would be seen.
  journal.commit({
    attributes: [],
    contents: [
      {
        row: { ino: number, size: number, baseSize: 0, changed: 1 },
        chunks: [{ chunk: 0, map: new Uint8Array(1 + (number % 1000)).fill(number) }],
      },
    ],
    entries: [{ parent: 1, name: `name ${number}`, ino: number }],
    freed: [],
  })
  writeSync(1, `${number}\n`)
}
