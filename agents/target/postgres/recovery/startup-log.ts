/**
 * Reads the log of an instance while it recovers: what restore_command reports in it, the messages of a failure to quote,
 * and progress to display.
 *
 * PostgreSQL's texts (src/backend/access/transam/xlogrecovery.c, xlog.c; its settings are fixed by the command line) are
 * displayed, and time the next query of the server; no decision depends on them. The state is queried from the server or
 * read from pg_control, and what the archive has is known from the lines of Howdah's own restore_command.
 */
import { open } from 'node:fs/promises'
import { ABSENT, INCOMPLETE, RESTORED } from '../settings/recovery-settings.ts'

/** Bytes of the log per read. */
const CHUNK = 64 * 1024
/** Number of last lines with a reason that are kept. */
const KEPT_LINES = 50

export type Phase = 'redo' | 'redo_done' | 'paused' | 'promoted' | 'ready'

export interface LogReader {
  /** Reads the new lines. @returns those that report progress */
  poll(): Promise<Progress[]>
  /** The last WAL file that was restored from the archive. */
  readonly lastRestored: string | undefined
  /** The last segment of the archive if it is partial, with its size. */
  readonly incomplete: string | undefined
  /** Lines of severity ERROR and above with their details, oldest first. */
  readonly reasons: readonly string[]
  /** The first segment that the archive lacked since it last had one. */
  readonly absent: string | undefined
  /** Whether that segment was requested again: PostgreSQL has tried all sources, and waits for it. */
  readonly archiveEnded: boolean
  /** How far replay came, according to the log; to display. */
  readonly reached: Reached
  /** SQLSTATE codes of the lines in `reasons`. */
  readonly sqlStates: ReadonlySet<string>
  close(): Promise<void>
}

export interface Reached {
  readonly lsn?: string
  /** Of the last transaction, in words. */
  readonly time?: string
}

export interface Progress {
  readonly detail: string
  readonly phase?: Phase
}

const PROGRESS: readonly { pattern: RegExp; detail: (match: RegExpExecArray) => string; phase?: Phase }[] = [
  {
    pattern: /LOG: {2}redo starts at (\S+)/,
    detail: ([, lsn]) => `replaying WAL from ${lsn}`,
    phase: 'redo',
  },
  {
    pattern: /LOG: {2}restored log file "([^"]+)" from archive/,
    detail: ([, name]) => `restored WAL file ${name}`,
  },
  {
    pattern: /LOG: {2}redo in progress, elapsed time: \S+ s, current LSN: (\S+)/,
    detail: ([, lsn]) => `replayed WAL to ${lsn}`,
  },
  {
    pattern: /LOG: {2}consistent recovery state reached at (\S+)/,
    detail: ([, lsn]) => `consistent at ${lsn}`,
  },
  {
    pattern: /LOG: {2}redo done at (\S+)/,
    detail: ([, lsn]) => `replay ended at ${lsn}`,
    phase: 'redo_done',
  },
  {
    pattern: /LOG: {2}last completed transaction was at log time (.+)$/,
    detail: ([, time]) => `last transaction of ${time}`,
  },
  {
    pattern: /LOG: {2}selected new timeline ID: (\d+)/,
    detail: ([, timeline]) => `promoting to timeline ${timeline}`,
  },
  {
    pattern: /LOG: {2}recovery stopping (.+)$/,
    detail: ([, where]) => `recovery stops ${where}`,
  },
  {
    pattern: /LOG: {2}(?:pausing at the end of recovery|recovery has paused)/,
    detail: () => 'recovery is paused',
    phase: 'paused',
  },
  { pattern: /LOG: {2}archive recovery complete/, detail: () => 'promoted', phase: 'promoted' },
  {
    pattern: /LOG: {2}database system is ready to accept connections/,
    detail: () => 'accepting connections',
    phase: 'ready',
  },
]

/** @param offset bytes of the log that earlier starts wrote */
export async function openLog(path: string, offset: number): Promise<LogReader> {
  const file = await open(path, 'r')
  const buffer = Buffer.alloc(CHUNK)
  const reasons: string[] = []
  let position = offset
  let rest = ''
  let lastRestored: string | undefined
  // Messages to refused connections, such as "the database system is starting up", are no reason.
  let inReason = false
  let previous = ''
  let archiveEnded = false
  let absent: string | undefined
  let incomplete: string | undefined
  let reached: Reached = {}
  const sqlStates = new Set<string>()

  /** The lines of restore_command. */
  function takeRestore(line: string): boolean {
    if (line.startsWith(INCOMPLETE)) {
      incomplete = line.slice(INCOMPLETE.length)
      return true
    }
    if (line.startsWith(RESTORED)) {
      lastRestored = line.slice(RESTORED.length)
      absent = undefined
      return true
    }
    if (!line.startsWith(ABSENT)) return false
    const name = line.slice(ABSENT.length)
    if (name === absent) archiveEnded = true
    if (/^[0-9A-F]{24}$/.test(name)) absent ??= name
    return true
  }

  function takeReached(line: string): void {
    const lsn = /LOG: {2}redo done at (\S+)/.exec(line)?.[1]
    const time = /LOG: {2}last completed transaction was at log time (.+)$/.exec(line)?.[1]
    if (lsn !== undefined) reached = { lsn }
    if (time !== undefined) reached = { ...reached, time }
  }

  function take(line: string): Progress | undefined {
    if (takeRestore(line)) return undefined
    takeReached(line)
    const severity = /(?:^|\] )(DEBUG\d?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC): {2}/.exec(line)?.[1]
    // Errors in the configuration, of a port or in the WAL are LOG lines before the final FATAL.
    const complaint = /(?:LOG|WARNING): {2}(?:could not|invalid|unrecognized|syntax error) /.test(line)
    const failure =
      ['ERROR', 'FATAL', 'PANIC'].includes(severity ?? '') && !/FATAL: {2}the database system is /.test(line)
    // A line without a severity belongs to the message before it.
    if (severity !== undefined) inReason = complaint || failure
    // Every message about a line of a configuration file is an error.
    if (!inReason && /CONTEXT: {2}line \d+ of configuration file /.test(line)) {
      reasons.push(previous)
      inReason = true
    }
    previous = line
    // Lines without a prefix come from the restore script, the dynamic loader and other programs.
    const bare = !/^(?:\d{4}-\d\d-\d\d |\s)/.test(line)
    if (inReason || (bare && line !== '')) {
      reasons.push(line)
      const state = /\[\d+:([0-9A-Z]{5})\] /.exec(line)?.[1]
      if (state !== undefined) sqlStates.add(state)
      if (reasons.length > KEPT_LINES) reasons.shift()
    }
    for (const { pattern, detail, phase } of PROGRESS) {
      const match = pattern.exec(line)
      if (match !== null) return { detail: detail(match), ...(phase !== undefined && { phase }) }
    }
    return undefined
  }

  return {
    async poll() {
      const progress: Progress[] = []
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, CHUNK, position)
        if (bytesRead === 0) return progress
        position += bytesRead
        const lines = (rest + buffer.toString('utf8', 0, bytesRead)).split('\n')
        rest = (lines.pop() ?? '').slice(-CHUNK)
        for (const line of lines) {
          const step = take(line)
          if (step !== undefined) progress.push(step)
        }
      }
    },
    get lastRestored() {
      return lastRestored
    },
    get incomplete() {
      return incomplete
    },
    reasons,
    get absent() {
      return absent
    },
    get archiveEnded() {
      return archiveEnded
    },
    get reached() {
      return reached
    },
    sqlStates,
    close: () => file.close(),
  }
}
