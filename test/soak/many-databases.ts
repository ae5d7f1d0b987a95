/** Owns the run of test/end-to-end/many-databases.test.ts with as many databases as a large service has in a cluster. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'

const DATABASES = 5_000
const FILE = 'test/end-to-end/many-databases.test.ts'

/** @returns whether it passed; its output is ours */
export async function runManyDatabases(): Promise<boolean> {
  const mocha = createRequire(import.meta.url).resolve('mocha/bin/mocha.js')
  const child = spawn(process.execPath, [mocha, FILE], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, HOWDAH_TEST_DATABASES: String(DATABASES) },
  })
  const [status] = (await once(child, 'exit')) as [number | null]
  return status === 0
}
