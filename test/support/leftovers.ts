/**
 * Owns failing a test run that leaves something behind: a mount, a process, a network, a directory.
 *
 * Processes of a run are recognised by a variable in their environment, which children inherit. Of the rest it is known
 * only that it is new: where another run of Howdah shares the machine it may belong to that, and is shown without failing
 * the run. Under test/main.ts each lane checks after each file for its own processes, and test/main.ts checks everything
 * when all lanes have ended. A mocha without test/main.ts does both, for which .mocharc.json loads this file.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  added,
  concernsHowdah,
  type Inventory,
  type MachineProcess,
  mountInventory,
  networkInventory,
  processes,
  processInventory,
  temporaryInventory,
} from './inventory.ts'

/** Not `HOWDAH_…`, which the tests remove from the environment of what they start: it would be configuration. */
export const MARK = 'TEST_RUN'
/** Mocha's number for a lane. */
const LANE = 'MOCHA_WORKER_ID'
/** Processes that are stopping may take a moment. */
const GRACE_MS = 8_000

export interface Before {
  readonly processes: Inventory
  readonly mounts: Inventory
  readonly files: Inventory
  readonly networks: Inventory
  /** Whether another run of Howdah was active already. */
  readonly shared: boolean
}

process.env[MARK] ??= randomUUID()

const variable = (name: string): string => `${name}=${process.env[name]}`
const isOfThisRun = ({ environment }: MachineProcess): boolean => environment.includes(variable(MARK))
const otherProcesses = (): MachineProcess[] => processes().filter(({ pid }) => pid !== process.pid)

/** The machine before the first test; taken by the one process that checks the whole run. */
export function takeInventory(): Before {
  const all = otherProcesses()
  return {
    processes: processInventory(all),
    mounts: mountInventory(),
    files: temporaryInventory(),
    networks: networkInventory(),
    shared: all.some((one) => concernsHowdah(one) || one.command.some((word) => /\/mocha$/.test(word))),
  }
}

/**
 * Shows what is new and may belong to another run.
 * @throws Error that lists what this run certainly left, after a grace period for what is just ending
 */
export async function expectNothingLeft(before: Before): Promise<void> {
  const found = await settled(() => leftovers(before))
  if (found.unclear.length > 0) {
    console.error(
      `\n  New on this machine, possibly of another run of Howdah:\n    ${found.unclear.join('\n    ')}`,
    )
  }
  failOn(found.ours)
}

/** What is new since `before`: certainly of this run, or unclear. */
function leftovers(before: Before): { ours: string[]; unclear: string[] } {
  const all = otherProcesses()
  const ours = added(before.processes, processInventory(all.filter(isOfThisRun)))
  const unclear = [
    ...added(before.processes, processInventory(all)).filter((description) => !ours.includes(description)),
    ...added(before.mounts, mountInventory()),
    ...added(before.files, temporaryInventory()),
    ...added(before.networks, networkInventory()),
  ]
  return before.shared || anotherRunIsActive(all)
    ? { ours, unclear }
    : { ours: [...ours, ...unclear], unclear: [] }
}

/** Whether another test run of Howdah is active on this machine. */
function anotherRunIsActive(all: readonly MachineProcess[]): boolean {
  return all.some(
    (one) => !isOfThisRun(one) && one.environment.some((setting) => setting.startsWith(`${MARK}=`)),
  )
}

/** Processes that this lane started. */
function leftByThisLane(): string[] {
  const ours = otherProcesses().filter((one) => isOfThisRun(one) && one.environment.includes(variable(LANE)))
  return [...processInventory(ours).values()]
}

async function settled<Found extends { ours: string[] }>(look: () => Found): Promise<Found> {
  const deadline = Date.now() + GRACE_MS
  let found = look()
  while (found.ours.length > 0 && Date.now() < deadline) {
    await sleep(100)
    found = look()
  }
  return found
}

function failOn(left: readonly string[]): void {
  if (left.length > 0) throw new Error(`the tests left behind:\n    ${left.join('\n    ')}`)
}

const isLane = process.env[LANE] !== undefined
let before: Before | undefined

export const mochaHooks = {
  beforeAll() {
    if (!isLane) before = takeInventory()
  },

  async afterAll(this: Mocha.Context) {
    this.timeout(GRACE_MS + 5_000)
    if (isLane) failOn((await settled(() => ({ ours: leftByThisLane() }))).ours)
    else if (before !== undefined) await expectNothingLeft(before)
  },
}
