import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { openJournal } from '../../agents/runtime/journal.ts'
import { openJournalFile } from '../../agents/runtime/journal-file.ts'
import { ConfigurationError } from '../../config/configuration-error.ts'
import { command, MOUNTED } from './commands.ts'

const CHILD = fileURLToPath(new URL('./journal-child.ts', import.meta.url))

describe('the journal of an agent', function () {
  this.timeout(30_000)

  let directory: string
  let file: string
  const children: ChildProcess[] = []

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'howdah-journal-'))
    file = join(directory, 'journal.sqlite')
  })

  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    await rm(directory, { recursive: true })
  })

  /** The table as it was before journals had a version. */
  function writeUnversioned(): void {
    const db = new DatabaseSync(file)
    db.exec(`
      PRAGMA journal_mode = WAL;
      CREATE TABLE step (session TEXT NOT NULL, sequence INTEGER NOT NULL, direction TEXT NOT NULL,
        command TEXT NOT NULL, outcome TEXT, announced INTEGER NOT NULL DEFAULT 0,
        accepted_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (session, sequence)) STRICT, WITHOUT ROWID`)
    db.prepare('INSERT INTO step (session, sequence, direction, command) VALUES (?, ?, ?, ?)').run(
      's1',
      7,
      'run',
      JSON.stringify(command('s1', 7)),
    )
    db.close()
  }

  it('takes over a file from before there were versions', () => {
    writeUnversioned()
    const journal = openJournal(file)
    expect(journal.unfinished().map(({ command }) => command)).to.deep.equal([command('s1', 7)])
    journal.close()
    const db = new DatabaseSync(file)
    expect(db.prepare('PRAGMA user_version').get()).to.deep.include({ user_version: 1 })
    db.close()
  })

  it('refuses a file of a newer release, and says so', () => {
    openJournal(file).close()
    const db = new DatabaseSync(file)
    db.exec('PRAGMA user_version = 99')
    db.close()
    expect(() => openJournal(file)).to.throw(ConfigurationError, /written by a newer release.*version 99/)
  })

  it('belongs to one process at a time, and is free as soon as that one was killed', async () => {
    const child = spawn(process.execPath, [CHILD, file], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    await once(child.stdout, 'data')
    expect(() => openJournalFile(file, 50)).to.throw(ConfigurationError, /in use by another agent process/)
    child.kill('SIGKILL')
    await once(child, 'exit')
    openJournal(file).close()
  })

  it('knows the latest step of a session when it comes again', () => {
    const journal = openJournal(file)
    expect(journal.accept('run', command('s1', 1))).to.deep.equal({ verdict: 'new' })
    journal.finish('s1', 1, { ok: true, result: MOUNTED })
    expect(journal.accept('run', command('s1', 1))).to.deep.include({ verdict: 'known' })
    journal.close()
  })

  it('refuses a step that is older than the latest, or another one under its number', () => {
    const journal = openJournal(file)
    for (const sequence of [7, 8]) journal.accept('run', command('s1', sequence))
    const refused = { verdict: 'refused', highest: 8 }
    expect(journal.accept('run', command('s1', 7))).to.deep.equal(refused)
    expect(journal.accept('run', command('s1', 3))).to.deep.equal(refused)
    expect(journal.accept('undo', command('s1', 8))).to.deep.equal(refused)
    expect(journal.accept('run', command('s1', 8, 'recover'))).to.deep.equal(refused)
    const other = command('s1', 8)
    const earlier = { ...other, input: { ...other.input, recoverTo: { type: 'immediate' as const } } }
    expect(journal.accept('run', earlier)).to.deep.equal(refused)
    expect(journal.accept('undo', command('s1', 9))).to.deep.equal({ verdict: 'new' })
    journal.close()
  })

  it('keeps the step by which a session was published until it is undone, and what is newer', () => {
    const journal = openJournal(file)
    const finish = (session: string, sequence: number) => {
      journal.finish(session, sequence, { ok: true, result: {} })
      journal.confirm(session, sequence)
    }
    for (const session of ['s1', 's2']) {
      for (const [index, step] of (['mount', 'recover', 'export'] as const).entries()) {
        journal.accept('run', command(session, index + 1, step))
        finish(session, index + 1)
      }
    }
    expect(journal.record('s1', 'recover')).to.have.nested.property('inEffect.command.sequence', 2)
    journal.accept('undo', command('s2', 4, 'recover'))
    finish('s2', 4)
    journal.prune(new Date(Date.now() + 60_000))
    expect(journal.record('s1', 'recover')).to.have.nested.property('inEffect.command.sequence', 2)
    expect(journal.record('s2', 'recover')).to.deep.equal({ sequence: undefined, inEffect: undefined })
    journal.close()
  })
})
