/**
 * The directory that test/main.ts shares with its lanes: what the lanes keep until they end is in it, and a file in it
 * tells them to stop. Loaded by .mocharc.json; a mocha that runs by itself has no such directory.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Names the directory to the lanes. */
export const RUN_DIRECTORY = 'TEST_RUN_DIRECTORY'

const STOP = 'stop'

export function runDirectory(): string | undefined {
  return process.env[RUN_DIRECTORY]
}

/** Lanes begin no more tests, but clean up after those that they began. */
export function stopLanes(directory: string): void {
  writeFileSync(join(directory, STOP), '')
}

function goOn(): void {
  const directory = runDirectory()
  if (directory !== undefined && existsSync(join(directory, STOP)))
    throw new Error('the run was told to stop')
}

/** A root hook that fails ends the file that runs, its own `after` hooks included. */
export const mochaHooks = { beforeAll: goOn, beforeEach: goOn }
