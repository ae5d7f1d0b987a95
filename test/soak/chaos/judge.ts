/** Owns the invariants of sessions, checked on the target and in their histories. */
import type { HistoryEntry, SessionView } from '../../../messages/values.ts'
import type { Fleet } from '../../support/fleet.ts'
import { mountInventory, processes } from '../../support/inventory.ts'
import { mountProcesses, postmasters } from '../../support/session-processes.ts'

/** A violated invariant. */
export class Violation extends Error {
  readonly session: string

  constructor(session: string, message: string) {
    super(`${session}: ${message}`)
    this.name = 'Violation'
    this.session = session
  }
}

/** Checks that no session has two servers, mount processes or mounts now. @throws Violation */
export function judgeMachine(fleet: Fleet, sessions: readonly string[]): void {
  const all = processes()
  const mounts = [...mountInventory().keys()]
  for (const id of sessions) {
    const servers = postmasters(fleet, id, all).map(({ pid }) => pid)
    if (servers.length > 1) throw new Violation(id, `${servers.length} postmasters: ${servers}`)
    const serving = mountProcesses(id, all).map(({ pid }) => pid)
    if (serving.length > 1) throw new Violation(id, `${serving.length} mount processes: ${serving}`)
    const mounted = mounts.filter((key) => key.endsWith(` ${fleet.mountRoot}/${id}`))
    if (mounted.length > 1) throw new Violation(id, `${mounted.length} mounts`)
  }
}

/** Checks that a session's history is complete and ordered, and that each step ended once. @throws Violation */
export function judgeHistory({ id, history = [], exports = [] }: SessionView): void {
  history.forEach((entry, index) => {
    const before = history[index - 1]
    if (before && entry.number !== before.number + 1) {
      throw new Violation(id, `its history goes from ${before.number} to ${entry.number}`)
    }
    if (before && entry.at < before.at) throw new Violation(id, `its history goes back at ${entry.number}`)
  })
  const ends = new Map<number, HistoryEntry>()
  for (const entry of history) {
    if (entry.type !== 'step' || entry.sequence === undefined) continue
    if (entry.status !== 'done' && entry.status !== 'failed') continue
    const earlier = ends.get(entry.sequence)
    if (earlier)
      throw new Violation(id, `the step ${entry.sequence} ended at ${earlier.number} and ${entry.number}`)
    ends.set(entry.sequence, entry)
  }
  for (const { id: name } of exports) {
    const done = history.filter(
      ({ type, text }) => type === 'export' && text.startsWith(`export ${name} done`),
    )
    if (done.length > 1) throw new Violation(id, `the export ${name} was done ${done.length} times`)
  }
}

export function printHistory({ id, state, history = [] }: SessionView): string {
  const lines = history.map(({ number, at, text }) => `  ${number}  ${at}  ${text}`)
  return `${id}, ${state}\n${lines.join('\n')}`
}
