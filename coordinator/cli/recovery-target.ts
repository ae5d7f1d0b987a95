/**
 * The recovery target on the command line: parsing, time zone, and display. Messages always name the zone of a time; a
 * time without one is taken as local time of the user, and a remark says so.
 */
import { RecoverTo } from '../../messages/values.ts'
import { formatTime, formatUtc } from './format.ts'
import { InvalidValue, UsageError } from './usage-error.ts'
import type { Entry, OptionDescription } from './verb-description.ts'

/** A recovery target as given on the command line. */
export interface GivenTarget {
  readonly recoverTo: RecoverTo
  /** How a time without zone was interpreted; undefined if it named one. */
  readonly remark?: string
}

export interface RecoveryOptions {
  readonly recoverTo?: GivenTarget
  readonly exclusive?: true
  readonly timeline?: number | 'latest' | 'current'
}

/** Targets that recovery can end before or after: recovery_target_inclusive has no effect on the others. */
const WITH_BOUNDARY: readonly string[] = ['time', 'lsn', 'xid']

/** `--recover-to`, `--exclusive` and `--timeline`. */
export function recoveryOptions(defaultText: string | undefined): readonly OptionDescription[] {
  return [
    {
      flags: '--recover-to <WHAT>',
      description:
        'State to recover to: latest (end of the archive), immediate (end of the backup), time=2026-11-22 ' +
        '07:30:00+01, lsn=0/3000148, xid=1234, or name=RESTORE_POINT. With the suffix ",exclusive" after a time, ' +
        'LSN or xid, recovery ends just before it. See TIMES.',
      ...(defaultText === undefined ? { required: true } : { defaultText }),
      parse: parseRecoverTo,
    },
    {
      flags: '--exclusive',
      description: 'End recovery just before the time, LSN or xid; the same as ",exclusive".',
    },
    {
      flags: '--timeline <N>',
      description: 'Timeline to recover along: a number, latest, or current (the one of the backup).',
      defaultText: 'latest, and current with "--recover-to immediate"',
      parse: parseTimeline,
    },
  ]
}

/** A section of the help of verbs that take a recovery target. */
export const TIMES: readonly Entry[] = [
  [
    'time=2026-11-22 07:30:00+01, time=2026-11-22T06:30:00Z',
    'With an offset or Z: used as it is. Seconds and their fraction may be omitted.',
  ],
  [
    'time=2026-11-22 07:30:00',
    'Without an offset: local time of the machine where the command is typed (TZ, else the time zone of the ' +
      'system); stderr shows it in UTC. What is sent, and shown with --json, is UTC. A local time that a clock ' +
      'change skips or repeats is refused.',
  ],
]

/**
 * The recovery target that the options describe together; undefined if none is given.
 * @throws UsageError where they contradict each other
 */
export function chosenTarget({
  recoverTo: given,
  exclusive,
  timeline,
}: RecoveryOptions): RecoverTo | undefined {
  const recoverTo = given?.recoverTo ?? { type: 'latest' as const }
  if (exclusive === true && !WITH_BOUNDARY.includes(recoverTo.type)) {
    throw new UsageError(`--exclusive goes with a time, an lsn or an xid, not with ${recoverTo.type}`)
  }
  if (given === undefined && timeline === undefined) return undefined
  return {
    ...recoverTo,
    ...(exclusive === true && { inclusive: false }),
    ...(timeline !== undefined && { timeline }),
  }
}

/** @throws InvalidValue */
function parseRecoverTo(text: string): GivenTarget {
  const [, type = '', assigned, boundary] = /^([^=,]*)(=.*?)?(?:,(inclusive|exclusive))?$/s.exec(text) ?? []
  const value = assigned?.slice(1)
  const parsed = RecoverTo.safeParse(value === undefined ? { type } : { type, value })
  const needsValue = !['latest', 'immediate'].includes(type)
  if (!parsed.success || needsValue !== (value !== undefined)) {
    throw new InvalidValue('latest, immediate, time=…, lsn=…, xid=… or name=…')
  }
  if (boundary !== undefined && !WITH_BOUNDARY.includes(type)) {
    throw new InvalidValue(`without ",${boundary}", which goes with a time, an lsn or an xid`)
  }
  const limits = boundary === undefined ? {} : { inclusive: boundary === 'inclusive' }
  switch (parsed.data.type) {
    case 'time': {
      const time = zoned(value ?? '')
      const recoverTo = { type: 'time' as const, value: time.text, ...limits }
      return time.remark === undefined ? { recoverTo } : { recoverTo, remark: time.remark }
    }
    case 'lsn':
      if (!/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(value ?? ''))
        throw new InvalidValue('an LSN like lsn=0/3000148')
      break
    case 'xid':
      if (!/^\d{1,20}$/.test(value ?? '')) throw new InvalidValue('a transaction number like xid=1234')
      break
    case 'latest':
    case 'immediate':
    case 'name':
      break
    default:
      parsed.data.type satisfies never
  }
  return { recoverTo: { ...parsed.data, ...limits } }
}

function parseTimeline(text: string): number | 'latest' | 'current' {
  if (text === 'latest' || text === 'current') return text
  const timeline = Number(text)
  if (!/^\d+$/.test(text) || timeline < 1) throw new InvalidValue('a number from 1, latest or current')
  return timeline
}

const TIME =
  /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(\.\d{1,6})?)?)?(?: ?(Z|UTC|[+-]\d{2}(?::?\d{2})?))?$/i

/** A time with its zone; without one it is local time. @throws InvalidValue */
function zoned(text: string): { text: string; remark?: string } {
  const [, year, month, day, hour, minute, second = '0', fraction = '', zone] = TIME.exec(text) ?? []
  const parts = [year, month, day, hour ?? '0', minute ?? '0', second].map(Number)
  const [y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0] = parts
  const asUtc = new Date(Date.UTC(y, mo - 1, d, h, mi, s))
  if (year === undefined || asUtc.toISOString().slice(0, 19) !== wallClock(parts)) {
    throw new InvalidValue('a time like time=2026-11-22 07:30:00+01, or …Z for UTC')
  }
  if (zone !== undefined) {
    if (hour === undefined)
      throw new InvalidValue('a date with its time of day, like time=2026-11-22 07:30:00+01')
    return { text }
  }
  const local = new Date(y, mo - 1, d, h, mi, s)
  const [wanted, name] = [wallClock(parts), Intl.DateTimeFormat().resolvedOptions().timeZone]
  if (localWallClock(local) !== wanted) {
    throw new InvalidValue(
      `a time that exists: ${shown(wanted)} is skipped in ${name}; add its offset to the time`,
    )
  }
  // Clocks are put back by an hour at most, half an hour in some zones: the other occurrence is that near.
  const others = [-60, -30, 30, 60].map((minutes) => new Date(local.getTime() + minutes * 60_000))
  const twin = others.find((other) => localWallClock(other) === wanted)
  if (twin !== undefined) {
    const both = [local, twin].sort((a, b) => a.getTime() - b.getTime()).map(formatTime)
    throw new InvalidValue(
      `unambiguous: ${shown(wanted)} occurs twice in ${name}; write ${both.join(' or ')}`,
    )
  }
  const utc = `${formatUtc(local)}${fraction}`
  const isSameDay = utc.slice(0, 10) === wanted.slice(0, 10)
  return {
    text: `${utc}Z`,
    remark: `${shown(wanted)}${fraction} in ${name} is ${isSameDay ? utc.slice(11) : utc} UTC`,
  }
}

function wallClock([year = 0, ...rest]: readonly number[]): string {
  const [month, day, hour, minute, second] = rest.map((part) => String(part).padStart(2, '0'))
  return `${String(year).padStart(4, '0')}-${month}-${day}T${hour}:${minute}:${second}`
}

function localWallClock(time: Date): string {
  const date = [time.getFullYear(), time.getMonth() + 1, time.getDate()]
  return wallClock([...date, time.getHours(), time.getMinutes(), time.getSeconds()])
}

function shown(wall: string): string {
  return wall.replace('T', ' ')
}

/** The recovery target as --recover-to takes it. */
export function formatRecoverTo(recoverTo: RecoverTo): string {
  const text = recoverTo.value === undefined ? recoverTo.type : `${recoverTo.type}=${recoverTo.value}`
  const remarks = [
    ...(recoverTo.inclusive === false ? ['exclusive'] : []),
    ...(recoverTo.timeline === undefined ? [] : [`timeline ${recoverTo.timeline}`]),
  ]
  return remarks.length === 0 ? text : `${text} (${remarks.join(', ')})`
}

/** As `formatRecoverTo`, followed by the time in UTC and in local time unless the text contains them. */
export function describeRecoverTo(recoverTo: RecoverTo): string {
  const text = formatRecoverTo(recoverTo)
  const time = recoverTo.type === 'time' ? new Date(recoverTo.value ?? '') : undefined
  if (time === undefined || Number.isNaN(time.getTime())) return text
  const isUtc = /(Z|UTC|\+00(:?00)?)$/i.test(recoverTo.value ?? '')
  const local = time.getTimezoneOffset() === 0 ? undefined : formatTime(time)
  const others = [isUtc ? undefined : `${formatUtc(time)} UTC`, local === recoverTo.value ? undefined : local]
  return [text, ...others.filter((other) => other !== undefined)].join(', ')
}
