/**
 * Owns the chaos run: several users with a session each on a fleet of several hosts, and faults at random. At intervals
 * the faults pause until every session has settled.
 */
import { chown, mkdir, readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { createRandom, type Random } from '../../durability/support/random.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { postgresAccount } from '../../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../../support/production.ts'
import { type FaultTarget, NETWORK_FAULTS, PROCESS_FAULTS, pickFault } from './faults.ts'
import { judgeMachine, printHistory, Violation } from './judge.ts'
import { type Counts, createUser, type User } from './user.ts'

export interface ChaosOptions {
  readonly seed: number
  /** Milliseconds since the epoch after which no fault begins. */
  readonly until: number
  readonly onProgress?: (outcome: ChaosOutcome) => void
  /** Each action, when it is done. */
  readonly log?: (text: string) => void
}

export type ChaosOutcome = Counts & {
  faults: number
  /** How often every session has settled. */
  settled: number
}

const USERS = 3
/** How long faults are injected before every session must settle. */
const STORM_MS = 40_000
/** How long sessions may take to settle after the last fault. */
const SETTLE_S = 90
const WATCH_EVERY_MS = 500

/** @throws Error with what was violated, and the session's history */
export async function runChaos(options: ChaosOptions): Promise<ChaosOutcome> {
  const outcome: ChaosOutcome = {
    ...{ published: 0, republished: 0, unpublished: 0, rows: 0, exports: 0, retries: 0 },
    ...{ faults: 0, settled: 0 },
  }
  const began = Date.now()
  const log = (text: string) => options.log?.(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`)
  let production: Production | undefined
  let fleet: Fleet | undefined
  let failed = true
  try {
    production = await makeProduction({ compress: 'gz', settings: { fsync: 'on' } })
    await production.backup('full')
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
    fleet = await startFleet({
      hosts: true,
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      // No session may fail or wait for a retry because of many faults.
      coordinator: {
        heartbeat: { interval: 1, lostAfter: 4 },
        retry: { attempts: 100, firstDelay: 0.2, maxDelay: 2 },
      },
      target: { readDeadline: 6 },
    })
    await storms(fleet, production, options, outcome, log)
    failed = false
    return outcome
  } finally {
    await fleet?.remove(failed)
    await production?.remove()
  }
}

async function storms(
  fleet: Fleet,
  production: Production,
  { seed, until, onProgress }: ChaosOptions,
  outcome: ChaosOutcome,
  log: (text: string) => void,
): Promise<void> {
  const { hosts } = fleet
  if (!hosts) throw new Error('the fleet has no hosts')
  const exportsTo = `${fleet.directory}/exports`
  const { uid, gid } = await postgresAccount()
  await mkdir(exportsTo)
  await chown(exportsTo, uid, gid)
  const users = Array.from({ length: USERS }, (_, index) =>
    createUser({
      fleet,
      production,
      exportsTo,
      random: createRandom(seed + 1 + index),
      counts: outcome,
      log,
    }),
  )
  const paces = users.map((_, index) => createRandom(seed + 300 + index))
  const sessions = () => users.map(({ session }) => session).filter((id) => id !== undefined)
  const network: FaultTarget = { fleet, hosts, sessions, random: createRandom(seed + 100) }
  const machine: FaultTarget = { fleet, hosts, sessions, random: createRandom(seed + 200) }
  try {
    while (Date.now() < until) {
      const end = Math.min(until, Date.now() + STORM_MS)
      await together([
        ...users.map((user, index) => acting(user, end, paces[index] ?? network.random)),
        faults(network, NETWORK_FAULTS, end, outcome, log),
        faults(machine, PROCESS_FAULTS, end, outcome, log),
        watching(fleet, sessions, end),
      ])
      await hosts.restoreAll()
      log('calm')
      await Promise.all(users.map((user) => user.settle(SETTLE_S)))
      judgeMachine(fleet, sessions())
      outcome.settled++
      onProgress?.(outcome)
    }
    await Promise.all(users.map((user) => user.end(SETTLE_S)))
    await expectNoSessionLeft(fleet)
  } catch (error) {
    throw await withHistory(error, fleet)
  }
}

/** A failure ends the run; the others are waited for, so that nothing runs on in the background. */
async function together(work: readonly Promise<void>[]): Promise<void> {
  const ended = await Promise.allSettled(work)
  for (const one of ended) if (one.status === 'rejected') throw one.reason
}

async function acting(user: User, end: number, random: Random): Promise<void> {
  while (Date.now() < end) {
    await user.act()
    await sleep(random.below(700))
  }
}

async function faults(
  target: FaultTarget,
  from: typeof NETWORK_FAULTS,
  end: number,
  outcome: ChaosOutcome,
  log: (text: string) => void,
): Promise<void> {
  const { random } = target
  for (;;) {
    await sleep(random.below(5_000))
    if (Date.now() >= end) return
    log(await pickFault(random, from)(target))
    outcome.faults++
  }
}

async function watching(fleet: Fleet, sessions: () => readonly string[], end: number): Promise<void> {
  while (Date.now() < end) {
    judgeMachine(fleet, sessions())
    await sleep(WATCH_EVERY_MS)
  }
}

async function expectNoSessionLeft({ mountRoot, cacheRoot }: Fleet): Promise<void> {
  const left = [
    ...(await entries(mountRoot)),
    ...(await entries(cacheRoot)).filter((name) => name !== 'fetched'),
  ]
  if (left.length > 0) throw new Violation(left.join(), 'something of it is left on the target')
}

async function entries(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}

async function withHistory(error: unknown, fleet: Fleet): Promise<unknown> {
  if (!(error instanceof Violation)) return error
  try {
    return new Error(`${error.message}\n${printHistory(await fleet.show(error.session))}`, { cause: error })
  } catch {
    return error
  }
}
