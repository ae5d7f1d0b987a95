/** Soaks that are test files of their own, too long for every run of the tests. */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'

/** Runs test/soak/NAME.soak.ts; returns whether everything passed. */
export function runSoakFile(name: string): boolean {
  const mocha = createRequire(import.meta.url).resolve('mocha/bin/mocha.js')
  const file = join(import.meta.dirname, `${name}.soak.ts`)
  return spawnSync(process.execPath, [mocha, file], { stdio: 'inherit' }).status === 0
}
