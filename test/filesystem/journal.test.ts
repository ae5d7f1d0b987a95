import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { expect } from 'chai'
import { type JournalIdentity, openJournal } from '../../agents/target/filesystem/durability/journal.ts'
import { HowdahError } from '../../messages/errors.ts'

describe('the journal of a write cache', () => {
  let directory: string
  let path: string

  beforeEach(() => {
    directory = mkdtempSync('/var/tmp/howdah-journal-')
    path = `${directory}/journal.sqlite`
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  const refusal = (identity?: JournalIdentity) => {
    try {
      openJournal(path, identity).close()
      return undefined
    } catch (error) {
      if (error instanceof HowdahError) return error
      throw error
    }
  }

  it('returns exactly what was committed', () => {
    const attributes = {
      ...{ ino: 2 ** 40, mode: 0o100644, nlink: 1, uid: 2 ** 32 - 2, gid: 0, rdev: 0x103 },
      ...{ atime: 1_700_000_000_123_456_789n, mtime: -1n, ctime: 0n, target: 'ü' },
    }
    const row = { ino: 7, size: 2 ** 52, baseSize: 3, changed: 9 }
    const chunks = [{ chunk: 3, map: Uint8Array.of(1, 2, 3) }]
    const entries = [
      { parent: 1, name: 'name', ino: 7 },
      { parent: 1, name: 'gone', ino: 0 },
    ]
    const journal = openJournal(path)
    journal.commit({ attributes: [attributes], contents: [{ row, chunks }], entries, freed: [] })
    journal.close()
    const again = openJournal(path)
    const state = structuredClone(again.load())
    again.close()
    expect(state.attributes.map((one) => ({ ...one }))).to.deep.equal([attributes])
    expect(state.contents.map((one) => ({ ...one.row }))).to.deep.equal([row])
    expect(state.contents[0]?.chunks.map(({ chunk, map }) => [chunk, ...map])).to.deep.equal([[3, 1, 2, 3]])
    expect(state.entries.map((one) => ({ ...one }))).to.have.deep.members(entries)
  })

  it('is never recreated where one existed, and that of another write cache is refused', () => {
    expect(refusal({ id: 'one', fresh: false })?.code).to.equal('cache_unusable')
    expect(existsSync(path)).to.equal(false)
    expect(refusal({ id: 'one', fresh: true })).to.equal(undefined)
    expect(refusal({ id: 'one', fresh: false })).to.equal(undefined)
    expect(refusal({ id: 'another', fresh: false })?.message).to.contain('another write cache')
    rmSync(path)
    expect(refusal({ id: 'one', fresh: false })?.message).to.contain('is missing')
    writeFileSync(path, '')
    expect(refusal({ id: 'one', fresh: false })?.message).to.contain('is missing')
  })

  it('without an identity, from an older version, is accepted and gets one', () => {
    openJournal(path).close()
    expect(refusal({ id: 'one', fresh: false })).to.equal(undefined)
    expect(refusal({ id: 'another', fresh: false })?.code).to.equal('cache_unusable')
  })

  it('refuses a journal of another version, and names it and both versions', () => {
    openJournal(path).close()
    const database = new DatabaseSync(path)
    database.exec('PRAGMA user_version = 99')
    database.close()
    expect(refusal()).to.include({ code: 'cache_unusable' })
    expect(refusal()?.message).to.contain(path).and.to.contain('99')
  })

  it('refuses a journal without a version', () => {
    const database = new DatabaseSync(path)
    database.exec('CREATE TABLE attributes (ino INTEGER PRIMARY KEY)')
    database.close()
    expect(refusal()).to.include({ code: 'cache_unusable' })
  })

  it('applies no part of a commit that fails in part', () => {
    const journal = openJournal(path)
    const entries = [{ parent: 1, name: 'name', ino: 7 }]
    const bad = [{ row: { ino: 7, size: 0.5, baseSize: 0, changed: 0 }, chunks: [] }]
    expect(() => journal.commit({ attributes: [], contents: bad, entries, freed: [] })).to.throw()
    expect(journal.load().entries).to.deep.equal([])
    journal.commit({ attributes: [], contents: [], entries, freed: [] })
    expect(journal.load().entries).to.have.length(1)
    journal.close()
  })
})
