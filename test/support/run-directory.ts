/**
 * Owns the directory that test/main.ts shares with its lanes: it has what the lanes keep until they end, and a file in it
 * stops them. Loaded by .mocharc.json; a mocha without test/main.ts has no such directory.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The environment variable that names the directory to the lanes. */
export const RUN_DIRECTORY = 'TEST_RUN_DIRECTORY'

const STOP = 'stop'

export function runDirectory(): string | undefined {
  return process.env[RUN_DIRECTORY]
}

/** Lanes begin no more tests, and clean up after those that they have begun. */
export function stopLanes(directory: string): void {
  writeFileSync(join(directory, STOP), '')
}

function failWhenStopped(): void {
  const directory = runDirectory()
  if (directory !== undefined && existsSync(join(directory, STOP)))
    throw new Error('the test run is being stopped')
}

/** A root hook that fails ends the running file after its `after` hooks. */
export const mochaHooks = { beforeAll: failWhenStopped, beforeEach: failWhenStopped }
