/**
 * The state directory of `howdah up`: made private, locked against a second `up`, and announced in `up.json`.
 *
 * The lock is that of an SQLite file: the kernel releases it when the process dies, however it dies, and a child does not
 * inherit it.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { identify } from '../../../config/process-identity.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { type UpFile, upFilePath } from '../up-file.ts'

/** Primary result code of SQLite when another process holds the lock: https://sqlite.org/rescode.html */
const SQLITE_BUSY = 5

export interface StateDirectory {
  readonly path: string
  /** Writes `up.json`, by which clients find the broker. */
  announce(broker: string): void
  /** Removes `up.json` and unlocks the directory. */
  release(): void
}

/** @throws HowdahError `configuration`: another `up` uses it | `path_unsafe`: owned by another user, or not writable */
export function openStateDirectory(directory: string): StateDirectory {
  try {
    for (const part of ['', 'config', 'log', 'run'])
      mkdirSync(path.join(directory, part), { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new HowdahError(
      'path_unsafe',
      `the state directory ${directory} cannot be created: ${(error as Error).message}; name another with --state DIR`,
      { cause: error, field: 'state' },
    )
  }
  const { uid } = statSync(directory)
  if (uid !== process.getuid?.()) {
    throw new HowdahError(
      'path_unsafe',
      `the state directory ${directory} belongs to another user (uid ${uid}); name another with --state DIR`,
      { field: 'state' },
    )
  }
  chmodSync(directory, 0o700)
  const lock = takeLock(directory)
  const ownPid = path.join(directory, 'run', 'up.pid')
  writeFileSync(ownPid, `${process.pid}\n`)
  rmSync(upFilePath(directory), { force: true })
  return {
    path: directory,
    announce: (broker) => {
      const self = identify(process.pid)
      const content: UpFile = { broker, pid: process.pid, startTime: self?.startTime ?? '' }
      writePrivate(upFilePath(directory), content)
    },
    release: () => {
      rmSync(upFilePath(directory), { force: true })
      rmSync(ownPid, { force: true })
      lock.close()
    },
  }
}

/** Replaces a JSON file atomically; only its owner may read it. */
export function writePrivate(file: string, document: object): void {
  const temporary = `${file}.new`
  rmSync(temporary, { force: true })
  writeFileSync(temporary, `${JSON.stringify(document, null, 2)}\n`, { mode: 0o600, flag: 'wx' })
  renameSync(temporary, file)
}

function takeLock(directory: string): DatabaseSync {
  const database = new DatabaseSync(path.join(directory, 'run', 'up.lock'))
  try {
    database.exec('BEGIN EXCLUSIVE')
    return database
  } catch (error) {
    database.close()
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) throw error
    throw new HowdahError(
      'configuration',
      `another "howdah up" (process ${holder(directory)}) uses the state directory ${directory}; stop it first, ` +
        'or give this one a directory of its own with --state DIR',
      { field: 'state' },
    )
  }
}

function holder(directory: string): string {
  try {
    return readFileSync(path.join(directory, 'run', 'up.pid'), 'utf8').trim()
  } catch {
    return 'unknown'
  }
}
