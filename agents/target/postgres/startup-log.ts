/**
 * Reads PostgreSQL's log while an instance recovers: progress for people, and why it failed.
 *
 * PostgreSQL says these things in its log only. The instance runs with lc_messages=C, so the texts are those of its
 * sources (src/backend/access/transam/xlogrecovery.c, xlog.c, timeline.c; postmaster/postmaster.c; libpq/pqcomm.c).
 * Nothing depends on progress texts; a failure that no text explains is `postgres_failed`.
 */
import { open } from 'node:fs/promises'
import { type ErrorCode, HowdahError } from '../../../messages/errors.ts'
import type { RecoveryMinimums } from './control-data.ts'
import { HBA_HEADER_LINES } from './host-based-access.ts'
import { ABSENT } from './recovery-settings.ts'
import { type InstanceSpec, instancePaths } from './specification.ts'

/** More than this of a log is not read at once; bytes. */
const CHUNK = 64 * 1024
/** Lines that an error quotes. */
const QUOTED_LINES = 6
/** Lines with a reason that are kept, the last ones. */
const KEPT_LINES = 50

export type Phase = 'redo' | 'consistent' | 'redo_done' | 'paused' | 'promoted' | 'ready'

export interface LogReader {
  /** Reads what was added; gives the new lines that tell of progress. */
  poll(): Promise<Progress[]>
  /** The last WAL file that was restored from the archive. */
  readonly lastRestored: string | undefined
  /** Lines of severity ERROR and above with what belongs to them, oldest first. */
  readonly reasons: readonly string[]
  /** Whether a standby has found that the archive has no more. */
  readonly archiveEnded: boolean
  /** How far replay came, as far as the log says. */
  readonly reached: Reached
  /** Limits that production raised since the backup, by name, where readers cannot be let in without. */
  readonly raised: RecoveryMinimums
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
    phase: 'consistent',
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

/** @param offset bytes of the log that are of earlier starts */
export async function openLog(path: string, offset: number): Promise<LogReader> {
  const file = await open(path, 'r')
  const buffer = Buffer.alloc(CHUNK)
  const reasons: string[] = []
  let position = offset
  let rest = ''
  let lastRestored: string | undefined
  // Refused connections say "the database system is starting up" and the like, which is no reason of anything.
  let inReason = false
  let archiveEnded = false
  let absent: string | undefined
  let reached: Reached = {}
  const raised: Partial<Record<keyof RecoveryMinimums, number>> = {}

  /** What a standby says of the end of its archive. Once through all sources, it begins with the same segment again. */
  function takeEnd(line: string): boolean {
    if (/LOG: {2}waiting for WAL to become available at /.test(line)) archiveEnded = true
    if (!line.startsWith(ABSENT)) return false
    const name = line.slice(ABSENT.length)
    if (name === absent) archiveEnded = true
    if (/^[0-9A-F]{24}$/.test(name)) absent ??= name
    return true
  }

  function takeFacts(line: string): void {
    const restored = /restored log file "([^"]+)"/.exec(line)?.[1]
    if (restored !== undefined) {
      lastRestored = restored
      absent = undefined
    }
    const lsn = /LOG: {2}redo done at (\S+)/.exec(line)?.[1]
    const time = /LOG: {2}last completed transaction was at log time (.+)$/.exec(line)?.[1]
    if (lsn !== undefined) reached = { lsn }
    if (time !== undefined) reached = { ...reached, time }
    const lower = /\b(max_\w+) = \d+ is a lower setting than on the \w+ server\D+(\d+)/.exec(line)
    if (lower !== null) raised[lower[1] as keyof RecoveryMinimums] = Number(lower[2])
  }

  function take(line: string): Progress | undefined {
    if (takeEnd(line)) return undefined
    takeFacts(line)
    const severity = /(?:^|\] )(DEBUG\d?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC): {2}/.exec(line)?.[1]
    if (severity !== undefined)
      inReason =
        ['ERROR', 'FATAL', 'PANIC'].includes(severity) && !/FATAL: {2}the database system is /.test(line)
    // What has no prefix comes from the restore script, the dynamic loader and the like.
    const bare = !/^(?:\d{4}-\d\d-\d\d |\s)/.test(line)
    // What is wrong with a configuration, a port or the WAL is told by LOG lines before the one that ends it all.
    const complaint = /(?:LOG|WARNING): {2}(?:could not|invalid|unrecognized|syntax error) /.test(line)
    if (inReason || complaint || (bare && line !== '')) {
      reasons.push(line)
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
    reasons,
    get archiveEnded() {
      return archiveEnded
    },
    get reached() {
      return reached
    },
    raised,
    close: () => file.close(),
  }
}

interface Cause {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly field?: string
  readonly message: (spec: InstanceSpec, log: LogReader) => string
}

const walMissing = (spec: InstanceSpec, log: LogReader) => {
  const { first, last } = spec.neededWal ?? {}
  const needed =
    first === undefined
      ? 'WAL that the backup needs to become consistent'
      : `WAL that the backup needs to become consistent (segments ${first} to ${last ?? 'the end of the backup'})`
  const got =
    log.lastRestored === undefined ? 'no segment was found' : `the last one found is ${log.lastRestored}`
  return `The archive lacks ${needed}; ${got}. Publish another backup, or bring the segments back into the archive.`
}

/** Lines as the user counts them: Howdah's own stand before. */
function wrongAccess({ reasons }: LogReader): string {
  const wrong = reasons.flatMap((line, index) => {
    const number = Number(/line (\d+) of configuration file "[^"]*pg_hba\.conf"/.exec(line)?.[1])
    const what = /LOG: {2}(.+)$/.exec(reasons[index - 1] ?? '')?.[1] ?? 'it is not valid'
    return Number.isNaN(number) ? [] : [`line ${number - HBA_HEADER_LINES}: ${what}`]
  })
  return `The content given for pg_hba.conf is wrong: ${wrong.join('; ')}. Correct it and publish again.`
}

/** The first that matches wins. */
const CAUSES: readonly Cause[] = [
  {
    pattern: /could not locate (?:a valid|required) checkpoint record/,
    code: 'wal_missing',
    message: walMissing,
  },
  { pattern: /could not find redo location/, code: 'wal_missing', message: walMissing },
  {
    pattern: /WAL ends before (?:end of online backup|consistent recovery point)/,
    code: 'wal_missing',
    message: walMissing,
  },
  {
    pattern: /recovery ended before configured recovery target was reached/,
    code: 'target_unreachable',
    field: 'recoverTo',
    message: (spec, log) => endsBefore(spec, log.reached, log.lastRestored),
  },
  {
    pattern: /requested recovery stop point is before consistent recovery point/,
    code: 'target_unreachable',
    field: 'recoverTo',
    message: (spec) =>
      `${describeTarget(spec)} is before the end of the backup. Choose an older backup or a later target.`,
  },
  {
    pattern: /recovery target timeline \d+ does not exist|requested timeline \d+ is not/,
    code: 'target_unreachable',
    field: 'recoverTo.timeline',
    message: (spec) =>
      `Timeline ${String(spec.recoverTo.timeline ?? 'latest')} cannot be reached from this backup; ${describeTarget(spec)} needs another timeline or another backup.`,
  },
  {
    pattern: /line \d+ of configuration file "[^"]*pg_hba\.conf"/,
    code: 'configuration',
    field: 'hba',
    message: (_, log) => wrongAccess(log),
  },
  {
    pattern:
      /could not bind \S+ (?:address|socket).*Address already in use|could not create any TCP\/IP sockets/,
    code: 'port_taken',
    field: 'port',
    message: ({ port }) =>
      `Port ${port} is in use on the target (who by: ss -ltnp 'sport = :${port}'). Choose another port, or free it and retry.`,
  },
  {
    pattern: /No space left on device/,
    code: 'space_low',
    message: ({ cachePath }) =>
      `The write cache ran out of space while PostgreSQL recovered. Make room on the file system of ${cachePath} and retry.`,
  },
]

/** That the archive ends before the target, and where. */
export function endsBefore(
  spec: Pick<InstanceSpec, 'recoverTo'>,
  { lsn, time }: Reached,
  lastRestored: string | undefined,
): string {
  const at = lsn === undefined ? '' : ` at ${lsn}`
  const last = time === undefined ? 'it has no later transaction' : `its last transaction is of ${time}`
  const file = lastRestored === undefined ? '' : `, its last WAL file ${lastRestored}`
  return `The archive ends${at} before ${describeTarget(spec)}; ${last}${file}. Choose an earlier target, or "latest".`
}

/** The recovery target, in words. */
export function describeTarget({ recoverTo }: Pick<InstanceSpec, 'recoverTo'>): string {
  return recoverTo.value === undefined
    ? `the recovery target "${recoverTo.type}"`
    : `the recovery target ${recoverTo.type} ${recoverTo.value}`
}

/** Why the server ended, from its log. */
export function startFailure(spec: InstanceSpec, log: LogReader, ending: string): HowdahError {
  const path = instancePaths(spec).log
  const quoted = log.reasons.slice(-QUOTED_LINES).map((line) => line.replace(/^.*?\] (?=[A-Z]+: )/, ''))
  const text = log.reasons.join('\n')
  const cause = CAUSES.find(({ pattern }) => pattern.test(text))
  const said = quoted.length === 0 ? '' : ` PostgreSQL said: ${quoted.join(' | ')}`
  if (cause === undefined)
    return new HowdahError('postgres_failed', `PostgreSQL ${ending}.${said} The whole log is in ${path}.`)
  const message = cause.message(spec, log)
  return new HowdahError(
    cause.code,
    `${message.charAt(0).toUpperCase()}${message.slice(1)}${said} The whole log is in ${path}.`,
    cause.field === undefined ? {} : { field: cause.field },
  )
}
