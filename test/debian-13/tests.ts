/** Which tests run on Debian 13: those of the broker, of repositories, and of publishing what its programs back up. */
import { globSync } from 'node:fs'

/** Rooms of which every test runs; the long ones first, as in test/main.ts. */
const ROOMS = [
  ...['repository', 'end-to-end', 'postgres', 'postgres-17', 'recovery-targets', 'export'],
  ...['filesystem/conformance', 'cli', 'messages'],
]

export const ALL: readonly string[] = ROOMS.flatMap((room) => globSync(`test/${room}/**/*.test.ts`).sort())

/** For .ci/run: minutes. */
export const SHARE: readonly string[] = [
  'test/repository/conformance.test.ts',
  'test/repository/barman.test.ts',
  'test/repository/basebackup.test.ts',
  'test/end-to-end/publish.test.ts',
  'test/end-to-end/formats.test.ts',
  ...globSync('test/messages/*.test.ts').sort(),
]
