/** Owns finding the processes of one session on the machine by their titles. */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import type { Fleet } from './fleet.ts'
import { type MachineProcess, processes } from './inventory.ts'

/** Postmasters of a session's data directory, without their children. */
export function postmasters(
  { mountRoot }: Pick<Fleet, 'mountRoot'>,
  id: string,
  all = processes(),
): MachineProcess[] {
  const data = `${mountRoot}/${id}/data`
  const servers = all.filter(
    ({ command }) =>
      basename(command[0] ?? '') === 'postgres' &&
      // `postgres -C NAME` prints a setting and ends: the agent runs it before it starts the server.
      !command.includes('-C') &&
      command.some((word) => word.includes(data)),
  )
  // A child has its postmaster's title until it has set its own.
  const pids = new Set(servers.map(({ pid }) => pid))
  return servers.filter(({ pid }) => !pids.has(parentOf(pid)))
}

/** proc(5): the fourth field of stat, after the parenthesised name. 0: it has ended. */
function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return 0
  }
}

export function mountProcesses(id: string, all = processes()): MachineProcess[] {
  // The title that a mount process gives itself is one word.
  return all.filter(({ command }) => command[0] === `howdah mount ${id}`)
}
