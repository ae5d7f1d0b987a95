/**
 * `npm run bench [-- [--quick] [--output DIRECTORY] [NAME…]]`: measures, side by side in one run, and prints one table.
 *
 * A full run of all groups also writes docs/bench.json and docs/bench.svg; another one writes into `--output`. A
 * target that is not reached is shown, and is not a failure.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { stopTestBroker } from '../support/broker.ts'
import { chart } from './chart.ts'
import type { Figure } from './figure.ts'
import { coldReads } from './groups/cold-reads.ts'
import { fleet } from './groups/fleet.ts'
import { instance } from './groups/instance.ts'
import { isolation } from './groups/isolation.ts'
import { listing } from './groups/listing.ts'
import { localIo } from './groups/local-io.ts'
import { manyFiles } from './groups/many-files.ts'
import { overlay } from './groups/overlay.ts'
import { publish } from './groups/publish.ts'
import { scans } from './groups/scans.ts'
import { wal } from './groups/wal.ts'
import { describeMachine } from './machine.ts'
import { type Outcome, table, toJson } from './report.ts'
import { createScope, listenForInterrupt, wasInterrupted } from './scope.ts'
import { createWorkshop, FULL, type Group, QUICK } from './workshop.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** In the order of the table. */
const GROUPS: ReadonlyMap<string, Group> = new Map([
  ['publish', publish],
  ['instance', instance],
  ['isolation', isolation],
  ['local-io', localIo],
  ['cold-reads', coldReads],
  ['scans', scans],
  ['overlay', overlay],
  ['many-files', manyFiles],
  ['listing', listing],
  ['wal', wal],
  ['fleet', fleet],
])

const { values: flags, positionals } = readArguments()
const unknown = positionals.filter((name) => !GROUPS.has(name))
if (unknown.length > 0) {
  usage(`there is no group ${unknown.join(', ')}; there are ${[...GROUPS.keys()].join(', ')}`)
}
if (process.getuid?.() !== 0) usage('the bench mounts and drops caches, and must be run as root')

// As in bin/howdah: programs of an installation are not compiled again at each start.
process.env.NODE_COMPILE_CACHE ??= path.join(ROOT, 'node_modules/.cache/howdah')
listenForInterrupt()
const begun = performance.now()
const outcome = await measure()
process.stdout.write(`\n${table(outcome)}\n`)
const output = flags.output ?? (isWhole() ? path.join(ROOT, 'docs') : undefined)
if (output !== undefined && !wasInterrupted()) {
  mkdirSync(output, { recursive: true })
  writeFileSync(path.join(output, 'bench.json'), toJson(outcome))
  writeFileSync(path.join(output, 'bench.svg'), chart(outcome))
}
process.stderr.write(`${Math.round((performance.now() - begun) / 1000)} s\n`)
process.exitCode = wasInterrupted() ? 130 : outcome.failures.length > 0 ? 1 : 0

async function measure(): Promise<Outcome> {
  const machine = describeMachine()
  const figures: Figure[] = []
  const notes: string[] = []
  const failures: string[] = []
  const scope = createScope()
  const amounts = flags.quick ? QUICK : FULL
  const workshop = createWorkshop(amounts, scope, notes)
  try {
    for (const [name, group] of GROUPS) {
      if (wasInterrupted() || (positionals.length > 0 && !positionals.includes(name))) continue
      workshop.say(`${name}:`)
      const inner = scope.inner()
      try {
        figures.push(...(await group(workshop, inner)))
      } catch (error) {
        // The figures of the other groups are still useful.
        failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`)
      } finally {
        await inner.close()
      }
    }
  } finally {
    await scope.close()
    await stopTestBroker()
  }
  return { takenAt: new Date().toISOString(), quick: amounts.quick, machine, figures, notes, failures }
}

function isWhole(): boolean {
  return !flags.quick && positionals.length === 0 && outcome.failures.length === 0
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { quick: { type: 'boolean', default: false }, output: { type: 'string' } },
    })
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error))
  }
}

function usage(what: string): never {
  process.stderr.write(
    `${what}\nusage: npm run bench -- [--quick] [--output DIRECTORY] [${[...GROUPS.keys()].join(' | ')}]…\n`,
  )
  process.exit(2)
}
