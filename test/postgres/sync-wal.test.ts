/** Syncing pg_wal as root, in a directory that another user may write to. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { syncFile, syncWal } from '../../agents/target/postgres/recovery/sync-wal.ts'

describe('Syncing pg_wal', () => {
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync('/var/tmp/howdah-wal-')
    writeFileSync(`${directory}/000000010000000000000001`, 'wal')
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  it('does not block on a FIFO, or on one that replaces a file', async () => {
    execFileSync('mkfifo', [`${directory}/000000010000000000000002`])
    await syncWal(directory, undefined)
    await syncFile(`${directory}/000000010000000000000002`)
  })

  it('follows no symbolic link, and ignores files that are removed meanwhile', async () => {
    symlinkSync('/etc/shadow', `${directory}/000000010000000000000002`)
    await syncWal(directory, '000000010000000000000001')
    await syncFile(`${directory}/000000010000000000000002`)
    await syncFile(`${directory}/000000010000000000000009`)
  })
})
