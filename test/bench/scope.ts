/**
 * Owns the cleanup of the bench's parts, also after Ctrl-C: running commands are ended, the part that waits for them
 * fails, and everything that it has deferred is cleaned up.
 */
import { readdirSync, readFileSync } from 'node:fs'

export interface Scope {
  /** Cleaned up in reverse order, each even when another failed. */
  defer(what: string, undo: () => Promise<unknown>): void
  /** A scope inside this one that can be closed earlier. */
  inner(): Scope
  /** @throws Error when the bench was interrupted */
  check(): void
  /** Runs the deferred cleanups; reports on stderr those that failed. Safe to repeat. */
  close(): Promise<void>
}

/** Programs that the bench waits for. Servers are not among them: their owners stop them in order. */
const COMMANDS = new Set(
  'pgbench psql pgbackrest pg_basebackup pg_ctl initdb fio cat find cp chown dd sync'.split(' '),
)

let interrupted = false

/** From now on SIGINT and SIGTERM interrupt the bench; a second one ends it at once. */
export function listenForInterrupt(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interrupted = true
      process.stderr.write('\nputting everything away …\n')
      for (const pid of ownCommands()) process.kill(pid, 'SIGTERM')
    })
  }
}

export const wasInterrupted = (): boolean => interrupted

export function createScope(): Scope {
  const undos: { readonly what: string; readonly undo: () => Promise<unknown> }[] = []
  const scope: Scope = {
    defer(what, undo) {
      undos.push({ what, undo })
    },
    inner() {
      const made = createScope()
      scope.defer('', () => made.close())
      return made
    },
    check() {
      if (interrupted) throw new Error('interrupted')
    },
    async close() {
      for (let last = undos.pop(); last !== undefined; last = undos.pop()) {
        try {
          await last.undo()
        } catch (error) {
          process.stderr.write(`${last.what}: ${String(error)}\n`)
        }
      }
    },
  }
  return scope
}

/** Direct children of this process that are commands. Fields of /proc/PID/stat: proc(5). */
function ownCommands(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
        const command = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'))
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
        return parent === process.pid && COMMANDS.has(command) ? [Number(name)] : []
      } catch {
        return []
      }
    })
}
