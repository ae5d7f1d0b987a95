/**
 * Determines why the server of an instance ended before it was usable: from SQLSTATE codes, and for causes without a code
 * of their own from the message texts of PostgreSQL's sources in its log.
 */
import { type ErrorCode, HowdahError } from '../../../../messages/errors.ts'
import { sharedMemoryShortage } from '../process/shared-memory-space.ts'
import { HBA_HEADER_LINES } from '../settings/host-based-access.ts'
import { type InstanceSpec, instancePaths } from '../specification.ts'
import type { LogReader, Reached } from './startup-log.ts'

/** Lines that an error quotes. */
const QUOTED_LINES = 6

/** SQLSTATE (PostgreSQL documentation, appendix A). */
const DISK_FULL = '53100'

interface Cause {
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

/** Line numbers of the user's content, without Howdah's own lines before it. */
function wrongAccess({ reasons }: LogReader): string {
  const wrong = reasons.flatMap((line, index) => {
    const number = Number(/line (\d+) of configuration file "[^"]*pg_hba\.conf"/.exec(line)?.[1])
    const what = /LOG: {2}(.+)$/.exec(reasons[index - 1] ?? '')?.[1] ?? 'it is not valid'
    return Number.isNaN(number) ? [] : [`line ${number - HBA_HEADER_LINES}: ${what}`]
  })
  return `The content given for pg_hba.conf is wrong: ${wrong.join('; ')}. Correct it and publish again.`
}

const CACHE_FULL: Cause = {
  code: 'space_low',
  message: ({ cachePath }) =>
    `The write cache ran out of space while PostgreSQL recovered. Make room on the file system of ${cachePath}, or raise cache.quotaBytes of the target agent and restart that, and retry.`,
}

/** The first match applies. */
const CAUSES: readonly (Cause & { readonly pattern: RegExp })[] = [
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
  // From the script that copies WAL, which has no SQLSTATE.
  { pattern: /from the archive failed: .*No space left on device/, ...CACHE_FULL },
]

/** Which file system is full: dynamic shared memory has one of its own. */
async function diskFullCause(): Promise<Cause> {
  const shortage = await sharedMemoryShortage()
  return shortage === undefined ? CACHE_FULL : { code: 'shared_memory_low', message: () => shortage }
}

/** Says where the archive ends, before the target. */
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

/** The error for a server that ended. @param ending how it ended, in words */
export async function startFailure(spec: InstanceSpec, log: LogReader, ending: string): Promise<HowdahError> {
  const path = instancePaths(spec).log
  const quoted = log.reasons.slice(-QUOTED_LINES).map((line) => line.replace(/^.*?\] (?=[A-Z]+: )/, ''))
  const text = log.reasons.join('\n')
  const cause =
    (log.sqlStates.has(DISK_FULL) ? await diskFullCause() : undefined) ??
    CAUSES.find(({ pattern }) => pattern.test(text))
  const said = quoted.length === 0 ? '' : ` PostgreSQL said: ${quoted.join(' | ')}`
  if (cause === undefined)
    return new HowdahError(
      // PostgreSQL logs every failure of its own, so without a message it was killed.
      quoted.length === 0 ? 'postgres_killed' : 'postgres_failed',
      `PostgreSQL ${ending}.${said} The whole log is in ${path}.`,
    )
  const message = cause.message(spec, log)
  return new HowdahError(
    cause.code,
    `${message.charAt(0).toUpperCase()}${message.slice(1)}${said} The whole log is in ${path}.`,
    cause.field === undefined ? {} : { field: cause.field },
  )
}
