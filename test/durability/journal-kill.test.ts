import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { openJournal } from '../../agents/target/filesystem/durability/journal.ts'
import { createRandom } from './support/random.ts'

const WRITER = fileURLToPath(new URL('./support/journal-writer.ts', import.meta.url))
const KILLS = 5

describe('the journal after kill -9 of the process that commits to it', function () {
  this.timeout(60_000)
  let directory: string

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-journal-'))
  })
  after(() => rm(directory, { recursive: true, force: true }))

  it('has every commit that was acknowledged, and each as a whole', async () => {
    const path = join(directory, 'journal.sqlite')
    const random = createRandom(20_250_104)
    for (let kill = 0; kill < KILLS; kill++) {
      const acknowledged = await commitUntilKilled(path, 1 + random.below(60))
      const journal = openJournal(path)
      const { entries, contents } = journal.load()
      journal.close()
      expect(entries.length).to.be.at.least(acknowledged)
      expect(entries.map(({ ino }) => ino).sort((a, b) => a - b)).to.deep.equal(
        Array.from(entries, (_, index) => index + 1),
      )
      expect(contents.length).to.equal(entries.length)
      for (const { row, chunks } of contents) {
        expect(chunks).to.have.length(1)
        expect(chunks[0]?.map).to.deep.equal(new Uint8Array(1 + (row.ino % 1000)).fill(row.ino))
      }
    }
  })
})

/** Kills the writer after so many commits; returns the number of the last one it acknowledged. */
async function commitUntilKilled(path: string, commits: number): Promise<number> {
  const child = spawn(process.execPath, [WRITER, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    if (output.split('\n').length > commits) child.kill('SIGKILL')
  })
  await closed
  return Number(output.split('\n').at(-2) ?? 0)
}
