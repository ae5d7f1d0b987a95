/**
 * Fails a test run that leaves something behind: a mount, a process, a network, a directory.
 *
 * What a run started is recognised by a variable in its environment, which children inherit. Of the rest it is known
 * only that it is new: where another run of Howdah shares the machine it may be theirs, and is shown without failing
 * the run. Under test/main.ts the lanes look after each file for what is certainly of their own, and test/main.ts for
 * everything when all have ended; a mocha that runs by itself does both, for which .mocharc.json loads this.
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

/** Not `HOWDAH_…`, which the tests take away from what they start: it would be configuration. */
export const MARK = 'TEST_RUN'
/** Mocha's number for a lane. */
const LANE = 'MOCHA_WORKER_ID'
/** What was told to stop may take a moment. */
const GRACE_MS = 8_000

export interface Before {
  readonly processes: Inventory
  readonly mounts: Inventory
  readonly files: Inventory
  readonly networks: Inventory
  /** Whether somebody else was at work already. */
  readonly shared: boolean
}

process.env[MARK] ??= randomUUID()

const variable = (name: string): string => `${name}=${process.env[name]}`
const isOfThisRun = ({ environment }: MachineProcess): boolean => environment.includes(variable(MARK))
const others = (): MachineProcess[] => processes().filter(({ pid }) => pid !== process.pid)

/** What is there before the first test; taken by the one process that has to answer for the run. */
export function lookAround(): Before {
  const all = others()
  return {
    processes: processInventory(all),
    mounts: mountInventory(),
    files: temporaryInventory(),
    networks: networkInventory(),
    shared: all.some((one) => concernsHowdah(one) || one.command.some((word) => /\/mocha$/.test(word))),
  }
}

/**
 * Shows what is new and maybe of somebody else.
 * @throws Error that lists what the run certainly left, after a while for what is just ending
 */
export async function expectNothingLeft(before: Before): Promise<void> {
  const found = await settled(() => leftovers(before))
  if (found.unclear.length > 0) {
    console.error(
      `\n  New on this machine, maybe of another run of Howdah:\n    ${found.unclear.join('\n    ')}`,
    )
  }
  complainOf(found.ours)
}

/** What is new since `before`, apart by whether it is certainly of this run. */
function leftovers(before: Before): { ours: string[]; unclear: string[] } {
  const all = others()
  const ours = added(before.processes, processInventory(all.filter(isOfThisRun)))
  const news = [
    ...added(before.processes, processInventory(all)).filter((description) => !ours.includes(description)),
    ...added(before.mounts, mountInventory()),
    ...added(before.files, temporaryInventory()),
    ...added(before.networks, networkInventory()),
  ]
  return before.shared || othersAreAtWork(all)
    ? { ours, unclear: news }
    : { ours: [...ours, ...news], unclear: [] }
}

/** Whether somebody else tests Howdah on this machine. */
function othersAreAtWork(all: readonly MachineProcess[]): boolean {
  return all.some(
    (one) => !isOfThisRun(one) && one.environment.some((setting) => setting.startsWith(`${MARK}=`)),
  )
}

/** Processes that this lane started. */
function leftByThisLane(): string[] {
  const ours = others().filter((one) => isOfThisRun(one) && one.environment.includes(variable(LANE)))
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

function complainOf(left: readonly string[]): void {
  if (left.length > 0) throw new Error(`the tests left behind:\n    ${left.join('\n    ')}`)
}

const isLane = process.env[LANE] !== undefined
let before: Before | undefined

export const mochaHooks = {
  beforeAll() {
    if (!isLane) before = lookAround()
  },

  async afterAll(this: Mocha.Context) {
    this.timeout(GRACE_MS + 5_000)
    if (isLane) complainOf((await settled(() => ({ ours: leftByThisLane() }))).ours)
    else if (before !== undefined) await expectNothingLeft(before)
  },
}
