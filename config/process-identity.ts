/** Names a process by its number and start time, so that a later process with the same number is not mistaken for it. */
import { readFileSync } from 'node:fs'

export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks since boot; with `pid` it names a process until the next reboot. */
  readonly startTime: string
}

export interface ProcessState extends ProcessIdentity {
  readonly parent: number
}

/**
 * The process that has this number now; undefined when there is none or it has ended, a zombie included. /proc is
 * answered from memory, so this reads at once.
 */
export function identify(pid: number): ProcessState | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // Source: proc(5). The second field is the program's name in parentheses and may itself contain blanks and
  // parentheses; field 3 is the state, 4 the parent, 22 the start time.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const startTime = fields[19]
  if (startTime === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined
  return { pid, startTime, parent: Number(fields[1]) }
}

/** Whether this process still runs. A zombie does not. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTime === identity.startTime
}
