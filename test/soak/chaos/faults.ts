/** Owns the faults that a chaos run injects: each breaks something for a while, and repairs it. */
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { clearDeadMount } from '../../../agents/target/mount-process/agent/dead-mount.ts'
import type { Random } from '../../durability/support/random.ts'
import type { Fleet } from '../../support/fleet.ts'
import type { Role } from '../../support/fleet-roles.ts'
import { MACHINE } from '../../support/host-layout.ts'
import type { Hosts } from '../../support/hosts.ts'
import type { Cut } from '../../support/link-cuts.ts'
import { mountProcesses, postmasters } from '../../support/session-processes.ts'

export interface FaultTarget {
  readonly fleet: Fleet
  readonly hosts: Hosts
  /** Sessions that have not ended. */
  readonly sessions: () => readonly string[]
  readonly random: Random
}

/** Injects the fault and ends it; returns a description. */
type Fault = (target: FaultTarget) => Promise<string>

const ROLES: readonly Role[] = ['coordinator', 'mount-agent', 'target-agent']
const CUTS: readonly Cut[] = ['vanish', 'deaf', 'refused']
const LINKS: readonly (readonly [string, string])[] = [
  ['target-agent', 'mount-agent'],
  ['target-agent', MACHINE],
  ['mount-agent', MACHINE],
  ['coordinator', MACHINE],
]
const LONGEST_CUT_MS = 9_000
const LONGEST_ABSENCE_MS = 4_000

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)] as T

async function cut({ hosts, random }: FaultTarget): Promise<string> {
  const [one, other] = pick(random, LINKS)
  const how = pick(random, CUTS)
  const ms = 200 + random.below(LONGEST_CUT_MS)
  // Either end may be the deaf one.
  if (random.oneIn(2)) await hosts.cut(one, other, how)
  else await hosts.cut(other, one, how)
  await sleep(ms)
  await hosts.restore(one, other)
  return `cut (${how}) between ${one} and ${other} for ${ms} ms`
}

async function unplug({ hosts, random }: FaultTarget): Promise<string> {
  const host = pick(random, ROLES)
  const ms = 200 + random.below(LONGEST_CUT_MS)
  await hosts.unplug(host)
  await sleep(ms)
  await hosts.plug(host)
  return `unplugged ${host} for ${ms} ms`
}

async function crash({ fleet, random }: FaultTarget): Promise<string> {
  const role = pick(random, ROLES)
  const signal = random.oneIn(3) ? 'SIGTERM' : 'SIGKILL'
  await fleet.stop(role, signal)
  await sleep(random.below(LONGEST_ABSENCE_MS))
  await fleet.start(role)
  return `${signal} of ${role}`
}

/** A process that is stopped for a while and resumes, as on a machine that is short of memory. */
async function freeze({ fleet, random }: FaultTarget): Promise<string> {
  const role = pick(random, ROLES)
  const pid = fleet.pid(role)
  const ms = 200 + random.below(LONGEST_ABSENCE_MS * 2)
  process.kill(pid, 'SIGSTOP')
  await sleep(ms)
  process.kill(pid, 'SIGCONT')
  return `${role} stood still for ${ms} ms`
}

async function restartBroker({ fleet, random }: FaultTarget): Promise<string> {
  const how = random.oneIn(2)
  await fleet.restartBroker({ crash: how })
  return how ? 'crash of the broker' : 'restart of the broker'
}

async function killPart(target: FaultTarget): Promise<string> {
  const sessions = target.sessions()
  if (sessions.length === 0) return 'nothing, as there was no session'
  const id = pick(target.random, sessions)
  const [what, found] = target.random.oneIn(2)
    ? ['PostgreSQL', postmasters(target.fleet, id)]
    : ['the mount process', mountProcesses(id)]
  for (const { pid } of found) kill(pid)
  return `SIGKILL of ${what} of ${id}${found.length === 0 ? ', which did not run' : ''}`
}

async function reboot(target: FaultTarget): Promise<string> {
  const { fleet, hosts, random } = target
  await hosts.killAll('target-agent')
  for (const id of target.sessions()) await clearDeadMount(`${fleet.mountRoot}/${id}`)
  await rm(fleet.mountRoot, { recursive: true, force: true })
  await sleep(random.below(LONGEST_ABSENCE_MS))
  await fleet.start('target-agent')
  return 'reboot of the target'
}

/** Faults of the network, and those of processes: one of each kind at a time. */
export const NETWORK_FAULTS: readonly Fault[] = [cut, cut, cut, unplug]
export const PROCESS_FAULTS: readonly Fault[] = [
  crash,
  crash,
  crash,
  freeze,
  killPart,
  killPart,
  killPart,
  killPart,
  reboot,
  restartBroker,
]

export function pickFault(random: Random, from: readonly Fault[]): Fault {
  return pick(random, from)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
