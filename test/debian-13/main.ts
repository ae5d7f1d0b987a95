/**
 * `npm run test:debian13 [-- FILES-OR-MOCHA-ARGUMENTS]`: runs the demo and tests in a Debian 13, with its RabbitMQ, PostgreSQL,
 * pgBackRest and Barman. What runs by itself: tests.ts. Takes root, and the first time the network.
 *
 *   --share         a share of it that takes minutes, for .ci/run
 *   --counts FILE   writes how many tests passed and failed, as test/support/reporter.ts does
 */
import { writeFileSync } from 'node:fs'
import { debianWithPackages } from './packages.ts'
import { startDebianSystem } from './system.ts'
import { ALL, SHARE } from './tests.ts'

const COUNTS = '/tmp/counts'

const given = process.argv.slice(2)
const share = take('--share', 1).length > 0
const [, countsFile] = take('--counts', 2)

/** An option with its values, which is no argument of mocha then; empty: it is not given. */
function take(option: string, words: number): string[] {
  const at = given.indexOf(option)
  return at === -1 ? [] : given.splice(at, words)
}

const began = performance.now()
const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(0)} s`

const layers = await debianWithPackages()
const system = await startDebianSystem(layers)
console.log(`Debian 13 is ready after ${seconds(began)}`)
for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)
  process.on(signal, () => void system.remove().then(() => process.exit(status)))

const counts = { passed: 0, failed: 0 }

async function stage(name: string, command: readonly string[]): Promise<boolean> {
  const started = performance.now()
  console.log(`\n== Debian 13: ${name}`)
  const status = await system.run(command)
  const outcome = status === 0 ? 'ok' : `FAILED (status ${status})`
  console.log(`== Debian 13: ${name}: ${outcome}, ${seconds(started)}`)
  return status === 0
}

async function demo(): Promise<void> {
  const passed = await stage('demo', ['sh', '-c', 'sh bin/prepare demo && exec node test/demo/main.ts'])
  counts[passed ? 'passed' : 'failed'] += 1
}

async function tests(wanted: readonly string[]): Promise<void> {
  const mocha = ['node', 'test/main.ts', '--reporter-option', `counts=${COUNTS}`]
  const passed = await stage('tests', [...mocha, ...wanted])
  const found = JSON.parse((await system.read(COUNTS)) ?? '{"passed":0,"failed":0}') as typeof counts
  counts.passed += found.passed
  // A run may fail without a failed test: by what it leaves, or gives away.
  counts.failed += passed ? 0 : Math.max(1, found.failed)
}

try {
  if (given.length === 0) await demo()
  await tests(given.length > 0 ? given : share ? SHARE : ALL)
  if (countsFile !== undefined) writeFileSync(countsFile, `${JSON.stringify(counts)}\n`)
} finally {
  await system.remove()
}
process.exitCode = counts.failed === 0 ? 0 : 1
