/**
 * Fails a test run that leaves something behind: a mount, a process, a directory.
 *
 * Loaded by .mocharc.json. What this run started is recognised by a variable in its environment, which children
 * inherit. Of the rest it is known only that it is new: where another run of Howdah shares the machine it may be
 * theirs, and is shown without failing the run.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  added,
  concernsHowdah,
  type Inventory,
  type MachineProcess,
  mountInventory,
  processes,
  processInventory,
  temporaryInventory,
} from './inventory.ts'

const MARK = 'HOWDAH_TEST_RUN'
/** What was told to stop may take a moment. */
const GRACE_MS = 8_000

interface Before {
  readonly processes: Inventory
  readonly mounts: Inventory
  readonly files: Inventory
  readonly shared: boolean
}

process.env[MARK] = randomUUID()
const mark = `${MARK}=${process.env[MARK]}`
let before: Before | undefined

/** What is new since `before`, apart by whether it is certainly of this run. */
function leftovers(since: Before): { ours: string[]; unclear: string[] } {
  const all = processes().filter((one) => one.pid !== process.pid)
  const marked = all.filter((one) => one.environment.includes(mark))
  const ours = added(since.processes, processInventory(marked))
  const news = [
    ...added(since.processes, processInventory(all)).filter((description) => !ours.includes(description)),
    ...added(since.mounts, mountInventory()),
    ...added(since.files, temporaryInventory()),
  ]
  return since.shared || othersAreAtWork(all)
    ? { ours, unclear: news }
    : { ours: [...ours, ...news], unclear: [] }
}

/** Whether somebody else tests or runs Howdah on this machine. */
function othersAreAtWork(all: readonly MachineProcess[]): boolean {
  return all.some(
    (one) =>
      one.pid !== process.pid &&
      !one.environment.includes(mark) &&
      one.environment.some((variable) => variable.startsWith(`${MARK}=`)),
  )
}

export const mochaHooks = {
  beforeAll() {
    const all = processes()
    before = {
      processes: processInventory(all),
      mounts: mountInventory(),
      files: temporaryInventory(),
      shared: all.some(
        (one) =>
          one.pid !== process.pid &&
          (concernsHowdah(one) || one.command.some((word) => /\/mocha$/.test(word))),
      ),
    }
  },

  async afterAll(this: Mocha.Context) {
    this.timeout(GRACE_MS + 5_000)
    if (before === undefined) return
    const deadline = Date.now() + GRACE_MS
    let found = leftovers(before)
    while (found.ours.length > 0 && Date.now() < deadline) {
      await sleep(100)
      found = leftovers(before)
    }
    if (found.unclear.length > 0) {
      console.error(
        `\n  New on this machine, maybe of another run of Howdah:\n    ${found.unclear.join('\n    ')}`,
      )
    }
    if (found.ours.length > 0) {
      throw new Error(`the tests left behind:\n    ${found.ours.join('\n    ')}`)
    }
  },
}
