/** The program of a trial mount: serves a backup of one file. It ends by itself in case the agent is gone. */
import { HowdahError } from '../../../messages/errors.ts'
import { readRanges } from '../../dataplane/server/read-ranges.ts'
import type { MountSource } from '../mount-process/mount-source.ts'
import { mountProgram } from '../mount-process/program/mount-program.ts'
import { TRIAL_CONTENT, TRIAL_FILE, TRIAL_LIFE_MS } from './trial-file.ts'

const content = Buffer.from(TRIAL_CONTENT)
const common = { mtime: 0, size: 0 }

const read: MountSource['read'] = async (_, offset, length) => content.subarray(offset, offset + length)

const source: MountSource = {
  connected: true,
  async *tree() {
    yield [
      { ...common, path: 'data', kind: 'directory', mode: 0o700 },
      { ...common, path: TRIAL_FILE, kind: 'file', mode: 0o600, size: content.length, file: 0 },
    ]
  },
  read,
  readMany: (ranges, signal) => readRanges(read, ranges, signal),
  walSize: async () => undefined,
  async walRead(name) {
    throw new HowdahError('wal_missing', `a trial mount has no WAL, and no ${name}`)
  },
  walStored: async () => undefined,
  async walReadStored(name) {
    throw new HowdahError('wal_missing', `a trial mount has no WAL, and no ${name}`)
  },
  async close() {},
}

setTimeout(() => process.kill(process.pid, 'SIGTERM'), TRIAL_LIFE_MS).unref()
await mountProgram(() => source)
