/** Parses the requested recovery target: times, LSNs, xids and names of restore points. Pure. */
import { HowdahError } from '../../../messages/errors.ts'
import type { RecoverTo } from '../../../messages/values.ts'
import { formatLsn, parseLsn } from '../../wal/lsn.ts'

interface Common {
  readonly timeline: number | 'latest' | 'current'
  /** Whether a transaction exactly at the target is included. */
  readonly inclusive: boolean
}

export type RecoveryTarget = Common &
  (
    | { readonly type: 'latest' | 'immediate' }
    /** Microseconds since 1970-01-01 UTC. */
    | { readonly type: 'time'; readonly time: number }
    | { readonly type: 'lsn'; readonly lsn: bigint }
    | { readonly type: 'xid'; readonly xid: number }
    | { readonly type: 'name'; readonly name: string }
  )

/** A restore point's name is at most 63 bytes (MAXFNAMELEN of access/xlog_internal.h). */
const MAX_NAME_BYTES = 63

const TIME =
  /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?\s*(?:(Z|UTC|GMT)|([+-]\d\d)(?::?(\d\d))?)?$/i

/** @throws HowdahError `invalid_message`, which names what is wrong with the value and shows a valid one */
export function parseRecoveryTarget(recoverTo: RecoverTo): RecoveryTarget {
  const { type, value } = recoverTo
  const common: Common = {
    timeline: recoverTo.timeline ?? (type === 'immediate' ? 'current' : 'latest'),
    inclusive: recoverTo.inclusive ?? true,
  }
  switch (type) {
    case 'latest':
    case 'immediate':
      return { ...common, type }
    case 'time':
      return { ...common, type, time: parseTime(needed(type, value)) }
    case 'lsn':
      return { ...common, type, lsn: parseLsn(needed(type, value)) }
    case 'xid':
      return { ...common, type, xid: parseXid(needed(type, value)) }
    case 'name': {
      const name = needed(type, value)
      if (Buffer.byteLength(name) <= MAX_NAME_BYTES) return { ...common, type, name }
      throw invalid(`no restore point has a name longer than ${MAX_NAME_BYTES} bytes`)
    }
    default:
      return type satisfies never
  }
}

/** For messages. */
export function describeTarget(target: RecoveryTarget): string {
  switch (target.type) {
    case 'latest':
      return 'the end of the archive'
    case 'immediate':
      return 'the end of the backup'
    case 'time':
      return formatTime(target.time)
    case 'lsn':
      return `LSN ${formatLsn(target.lsn)}`
    case 'xid':
      return `transaction ${target.xid}`
    case 'name':
      return `restore point "${target.name}"`
    default:
      return target satisfies never
  }
}

/** `2026-11-22 14:02:11.5 UTC`, of microseconds since 1970-01-01 UTC. */
export function formatTime(microseconds: number): string {
  const seconds = Math.floor(microseconds / 1_000_000)
  const fraction = String(microseconds - seconds * 1_000_000)
    .padStart(6, '0')
    .replace(/0+$/, '')
  const date = new Date(seconds * 1000)
  if (Number.isNaN(date.getTime())) return 'a time out of range'
  const text = date.toISOString().slice(0, 19).replace('T', ' ')
  return `${text}${fraction === '' ? '' : `.${fraction}`} UTC`
}

/** ISO 8601 with microseconds; undefined for a time outside of the years 0 to 9999. */
export function isoTime(microseconds: number | undefined): string | undefined {
  if (microseconds === undefined) return undefined
  const date = new Date(Math.floor(microseconds / 1000))
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999 || date.getUTCFullYear() < 0)
    return undefined
  const rest = String(((microseconds % 1000) + 1000) % 1000).padStart(3, '0')
  return date.toISOString().replace('Z', `${rest === '000' ? '' : rest}Z`)
}

function needed(type: string, value: string | undefined): string {
  if (value !== undefined) return value
  throw invalid(`recovery to a ${type} needs its value`)
}

/** Microseconds since 1970-01-01 UTC. */
function parseTime(value: string): number {
  const found = TIME.exec(value.trim())
  const example = 'one looks like 2026-11-22 14:02:11+00'
  if (found === null) throw invalid(`"${value}" is not a time; ${example}`)
  const [, date, minutes, seconds = '00', fraction = '', universal, hours, rest = '00'] = found
  if (universal === undefined && hours === undefined) {
    throw invalid(`"${value}" names no time zone, so it could be several times; ${example}`)
  }
  const zone = hours === undefined ? 'Z' : `${hours}:${rest}`
  const milliseconds = Date.parse(`${date}T${minutes}:${seconds}${zone}`)
  // Date.parse takes 31 February for March.
  const day = Number(date?.slice(8))
  const isDay = new Date(`${date}T00:00:00Z`).getUTCDate() === day
  if (Number.isNaN(milliseconds) || !isDay) throw invalid(`"${value}" is not a valid date; ${example}`)
  return milliseconds * 1000 + Number(fraction.padEnd(6, '0'))
}

/** PostgreSQL compares the lower 32 bits (assign_recovery_target_xid). */
function parseXid(value: string): number {
  if (!/^\d{1,20}$/.test(value)) throw invalid(`"${value}" is not a transaction number; one looks like 726`)
  return Number(BigInt(value) & 0xffff_ffffn)
}

const invalid = (message: string) => new HowdahError('invalid_message', message, { field: 'recoverTo.value' })
